"""manifest.json: all it takes to make the same pictures again, and the means to tell whether they are the same.

Pictures are equal bit for bit on one machine with one set of versions and one model; `differences_here` says in words what
is not as it was. The file holds no date, so a story made again gives an equal manifest.
"""

import dataclasses
import functools
import hashlib
import importlib.metadata
import json
import os
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from storyjax.errors import StoryjaxError
from storyjax.story.files import write_whole
from storyjax.story.story import Character, Frame, Story

NAME = "manifest.json"
FORMAT = 1  # raised when an older storyjax could not read the file rightly
PACKAGES = ("storyjax", "jax", "jaxlib", "flax", "numpy")
SETTINGS_FILES = ("*config.json", "vocab.json", "merges.txt")


@dataclasses.dataclass(frozen=True)
class FirstPicture:
    """The given first picture: `file` beside the manifest holds its pixels as the model saw them."""

    file: str
    sha256: str  # of the pixels
    source: str = ""  # as the person named it
    note: str = ""  # what was done to it, see pictures.py


@dataclasses.dataclass(frozen=True)
class Manifest:
    """What a storyboard was made from. `options` holds further settings of a system, plain values only.

    `pictures` maps each picture's file to its sha256, see `pixels_sha256`; of story.gif the file's own bytes are hashed.
    """

    sentences: tuple[str, ...]
    system: str
    model: str
    model_sha256: str
    seed: int
    steps: int
    sampler: str
    guidance: str
    guidance_scale: float
    height: int
    width: int
    title: str = ""
    style: str = ""
    cast: tuple[Character, ...] = ()
    guidance_rescale: float = 0.0
    image_guidance_scale: float | None = None  # of the given first picture, with guidance "both"
    negative_prompt: str = ""
    first_picture: FirstPicture | None = None
    options: dict[str, bool | int | float | str | None] = dataclasses.field(default_factory=dict)
    versions: dict[str, str] = dataclasses.field(default_factory=dict)
    device: str = ""
    pictures: dict[str, str] = dataclasses.field(default_factory=dict)
    format: int = FORMAT

    @classmethod
    def of(cls, story: Story, model: str | Path, **settings: Any) -> "Manifest":
        """The manifest of drawing `story` with the model in the folder `model`, on this machine with these versions.

        settings: system, seed, steps, sampler, guidance, guidance_scale, height, width; where they apply guidance_rescale,
        image_guidance_scale, negative_prompt, first_picture, options.
        """
        return cls(
            sentences=story.sentences,
            title=story.title,
            style=story.style,
            cast=story.cast,
            model=str(model),
            model_sha256=model_sha256(model),
            versions=versions_here(),
            device=device_here(),
            **settings,
        )

    def story(self, folder: str | Path) -> Story:
        """The story told by the manifest in `folder`, its first picture found there."""
        picture = None if self.first_picture is None else str(Path(folder) / self.first_picture.file)
        first, *others = self.sentences
        return Story((Frame(first, picture), *map(Frame, others)), self.title, self.style, self.cast)

    def differences_here(self, model: str | Path | None = None) -> list[str]:
        """One sentence for all that is not as it was when the pictures were made; empty when they must come out the same."""
        found = []
        if model is not None and (now := model_sha256(model)) != self.model_sha256:
            found.append(
                f"the weights in '{model}' are not those of the manifest (sha256 {now[:12]} now, "
                f"{self.model_sha256[:12]} then): the pictures will be others"
            )
        here = versions_here()
        changed = [
            f"{name} {here.get(name)} now, {then} then"
            for name, then in self.versions.items()
            if here.get(name) != then
        ]
        if changed:
            found.append(f"other versions ({'; '.join(changed)}): the pictures may differ a little")
        if self.device and (device := device_here()) != self.device:
            found.append(f"another device ({device} now, {self.device} then): the pictures may differ a little")
        return found

    def differing_frames(self, images: np.ndarray | Sequence[np.ndarray]) -> list[int]:
        """Numbers, from 1, of those frames (F,H,W,3) that are not pixel for pixel what the manifest says."""
        then = [self.pictures.get(frame_name(index)) for index in range(len(self.sentences))]
        return [n for n, (pixels, digest) in enumerate(zip(images, then), 1) if pixels_sha256(pixels) != digest]

    def write(self, path: str | Path) -> Path:
        """Write as JSON, whole or not at all."""
        path = Path(path)
        text = json.dumps(dataclasses.asdict(self), indent=2, ensure_ascii=False)
        write_whole(path, (text + "\n").encode())
        return path

    @classmethod
    def read(cls, path: str | Path) -> "Manifest":
        """Read a manifest, given by its file or by the folder it lies in; see the errors of `read_manifest`."""
        return read_manifest(path)


def read_manifest(path: str | Path) -> Manifest:
    """Read and check a manifest; `path` is the file or its folder.

    Errors: no such file, no JSON (with the line), the manifest of a newer storyjax, missing fields (all named together),
    unknown fields (naming the nearest), a value of another type.
    """
    path = Path(path)
    path = path / NAME if path.is_dir() else path
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise StoryjaxError(
            f"there is no manifest at '{path}'; give the {NAME} of a storyboard or its folder"
        ) from None
    except json.JSONDecodeError as error:
        raise StoryjaxError(
            f"{path}: line {error.lineno}: not valid JSON: {error.msg}; the manifest is damaged"
        ) from None
    except (UnicodeDecodeError, RecursionError):
        raise StoryjaxError(f"{path}: this is no manifest; give the {NAME} of a storyboard") from None
    except OSError as error:
        raise StoryjaxError(f"{path}: the manifest cannot be read: {error.strerror}") from None
    if not isinstance(fields, dict) or not isinstance(fields.get("format"), int):
        raise StoryjaxError(f"{path}: this is no manifest: it has no 'format' number; give the {NAME} of a storyboard")
    if fields["format"] > FORMAT:
        raise StoryjaxError(
            f"{path}: format {fields['format']} is newer than this storyjax reads ({FORMAT}); update storyjax"
        )
    return _checked(path, fields)


def _checked(path: Path, fields: dict[str, Any]) -> Manifest:
    import pydantic

    from storyjax.config import nearest  # here: it brings the command-line library along

    known = dataclasses.fields(Manifest)
    needed = [f.name for f in known if f.default is f.default_factory is dataclasses.MISSING]
    if missing := [name for name in needed if name not in fields]:
        raise StoryjaxError(f"{path}: the manifest lacks {', '.join(missing)}; it is damaged or was changed by hand")
    for name in fields:
        if name not in {f.name for f in known}:
            raise StoryjaxError(f"{path}: the manifest has no field '{name}'{nearest(name, [f.name for f in known])}")
    try:
        manifest = pydantic.TypeAdapter(Manifest).validate_json(json.dumps(fields), strict=True)
        Story(tuple(map(Frame, manifest.sentences)), manifest.title, manifest.style, manifest.cast)
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise StoryjaxError(f"{path}: field '{where}': {first['msg']}, got {str(first['input'])[:60]!r}") from None
    except StoryjaxError as error:
        raise StoryjaxError(f"{path}: {error}") from None
    return manifest


def frame_name(index: int) -> str:
    """File of frame `index`, counted from 0, inside a storyboard's folder."""
    return f"frames/{index:03d}.png"


def pixels_sha256(pixels: np.ndarray) -> str:
    """sha256 of a uint8 array: of its shape in decimal, then its bytes in C order. Not of a file, whose compression varies."""
    digest = hashlib.sha256("x".join(map(str, pixels.shape)).encode())
    digest.update(np.ascontiguousarray(pixels).tobytes())
    return digest.hexdigest()


def file_sha256(path: Path) -> str:
    """sha256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def model_sha256(folder: str | Path) -> str:
    """sha256 over the names and contents of a model's weights, configurations and vocabulary, in the order of their names.

    Of the weights those files count that the model is read from, of any format: other variants beside them draw nothing.
    Errors: as `storyjax.weights.layouts.recognise`, where the folder holds no whole model.
    """
    from storyjax.weights.layouts import recognise  # here: it brings JAX along

    folder = Path(folder)
    weights = {file for part in recognise(folder).parts.values() for file in part.tensors.files}
    settings = {file for pattern in SETTINGS_FILES for file in folder.rglob(pattern)}
    digest = hashlib.sha256()
    for name in sorted(file.relative_to(folder).as_posix() for file in weights | settings):
        digest.update(f"{name}\0{file_sha256(folder / name)}\n".encode())
    return digest.hexdigest()


def versions_here() -> dict[str, str]:
    """Versions of this library and of those that decide over the last bits, read without importing them."""
    return {name: _version(name) for name in PACKAGES}


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


@functools.lru_cache(maxsize=1)
def device_here() -> str:
    """The kind of device jax computes on; a CPU with its model and cores, since its instructions decide over the last bits."""
    import jax

    kind = jax.devices()[0].device_kind
    if kind.lower() != "cpu":
        return kind
    names = [line.partition(":")[2].strip() for line in _cpuinfo() if line.startswith("model name")]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"cpu, {names[0] if names else platform.processor() or platform.machine()}, {cores} cores"


def _cpuinfo() -> list[str]:
    try:
        return Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
