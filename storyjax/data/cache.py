"""What a frozen encoder says about every story, computed once: latents of a frozen VAE, states of a frozen text encoder.

A cache is a folder of float16 `.npy` files with one row per story, and `cache.json` with the fingerprint of what they
were made from (the stories' content, the encoder's weights). A cache that does not fit is an error, never used in
silence. Rows are appended to a folder beside (`<folder>.partial`), which is renamed when complete; an interrupted
build goes on where it stopped.
"""

import contextlib
import hashlib
import json
import math
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm import tqdm

from storyjax.data.batch import BatchSpec
from storyjax.data.pipeline import Batch, iterate_once
from storyjax.data.source import StorySource
from storyjax.errors import StoryjaxError

if TYPE_CHECKING:
    from transformers import CLIPTokenizer

_SAVE_EVERY = 32  # batches between two notes of how far the build has come
Encode = Callable[[Batch], Mapping[str, Any]]


def weights_hash(params: Mapping[str, Any]) -> str:
    """A hash of the names, types, shapes and bytes of a nested dict of arrays: changes when any weight does."""
    digest = hashlib.blake2b(digest_size=16)

    def add(path: str, value: Any) -> None:
        if isinstance(value, Mapping):
            for name in sorted(value):
                add(f"{path}.{name}", value[name])
        else:
            array = np.ascontiguousarray(value)
            digest.update(f"{path}:{array.dtype}:{array.shape};".encode())
            digest.update(array.reshape(-1).view(np.uint8).data)

    add("", params)
    return digest.hexdigest()


def build_cache(
    folder: str | Path,
    source: StorySource,
    encode_fn: Encode,
    *,
    spec: BatchSpec,
    batch_size: int,
    fingerprint: Mapping[str, Any],
    tokenizer: "CLIPTokenizer | None" = None,
    max_length: int | None = None,
    tokens: np.ndarray | None = None,
    means: Sequence[str] = (),
    dtype: Any = np.float16,
    rebuild: bool = False,
    threads: int = 4,
    progress: bool = True,
) -> Path:
    """Encode every story of `source` once and keep the arrays in `folder`.

    `encode_fn` gets batches of `spec` (all of one shape: the last is filled up) and returns arrays (B, ...) by name; each is
    stored as `<name>.npy` (N, ...) of `dtype`. Names in `means` are not stored; their mean over all stories is, in
    float64. `fingerprint` (JSON values) names all the encoder depends on, e.g. `{"vae": weights_hash(params)}`; the
    source's own is added. A cache that fits is left as it is; one that does not is an error, or replaced with `rebuild`.
    In a run of several processes one of them builds, the others wait.

    Errors: stale cache, values that `dtype` cannot hold, full disk (what is there is kept, the same call goes on).
    """
    folder = Path(folder)
    made = {"dtype": np.dtype(dtype).name, "means": list(means)}
    wanted = {"source": source.fingerprint(), **json.loads(json.dumps(fingerprint)), **made}
    if folder.exists():
        try:
            _check_fingerprint(
                folder, _read_note(folder)["fingerprint"], wanted, "; or pass rebuild=True to replace it"
            )
            return folder
        except StoryjaxError:
            if not rebuild:
                raise
    writer = _Writer(folder.with_name(f"{folder.name}.partial"), wanted, len(source), tuple(means), np.dtype(dtype))
    batches = iterate_once(
        source,
        spec,
        batch_size,
        tokenizer=tokenizer,
        max_length=max_length,
        tokens=tokens,
        start=writer.done,
        pad=True,
        threads=threads,
        process_index=0,
        process_count=1,
    )
    bar = tqdm(total=len(source), initial=writer.done, unit="story", desc=f"cache {folder.name}", disable=not progress)
    with bar, contextlib.closing(writer):
        for number, batch in enumerate(batches, start=1):
            stories = int((batch["index"] >= 0).sum())
            encoded = {name: np.asarray(value)[:stories] for name, value in encode_fn(batch).items()}
            with _told_full_disk(writer):
                writer.append(encoded, stories)
                if number % _SAVE_EVERY == 0:
                    writer.save()
            bar.update(stories)
        with _told_full_disk(writer):
            writer.finish(folder)
    return folder


@contextlib.contextmanager
def _told_full_disk(writer: "_Writer") -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StoryjaxError(
            f"cannot write the cache '{writer.folder}' ({error.strerror or error}); {writer.done} of {writer.stories} stories "
            "are kept, make room and run the same again"
        ) from error


class _Writer:
    """Appends rows to plain .npy files, and notes every now and then how many are safe.

    Plain appends rather than memory maps: a full disk is then an error that can be told, not a signal that kills.
    """

    def __init__(
        self, folder: Path, fingerprint: dict[str, Any], stories: int, means: tuple[str, ...], dtype: np.dtype
    ):
        self.folder, self.fingerprint, self.stories, self.means, self.dtype = folder, fingerprint, stories, means, dtype
        self.done, self.written = 0, 0
        self.shapes: dict[str, list[int]] = {}
        self.sums: dict[str, np.ndarray] = {}
        self._files: dict[str, Any] = {}
        note = self._usable_note()
        if note is None:
            shutil.rmtree(folder, ignore_errors=True)
            return
        self.done = self.written = note["done"]
        self.sums = {name: np.asarray(value, np.float64) for name, value in note["sums"].items()}
        for name, shape in note["shapes"].items():
            self._open(name, shape)

    def _usable_note(self) -> dict[str, Any] | None:
        """How far an interrupted build of the very same cache came."""
        try:
            note = json.loads((self.folder / "progress.json").read_text())
        except (OSError, json.JSONDecodeError):
            return None
        whole = all((self.folder / f"{name}.npy").is_file() for name in note["shapes"])
        return note if whole and note["fingerprint"] == self.fingerprint else None

    def append(self, arrays: Mapping[str, np.ndarray], stories: int) -> None:
        for name, value in arrays.items():
            if len(value) != stories:
                raise StoryjaxError(
                    f"encode_fn gave '{name}' of shape {value.shape}; expected one row for each story of the batch"
                )
            if name in self.means:
                self.sums[name] = self.sums.get(name, 0.0) + value.astype(np.float64).sum(0)
                continue
            if name not in self._files:
                self._open(name, list(value.shape[1:]))
            with np.errstate(over="ignore"):
                stored = np.ascontiguousarray(value, dtype=self.dtype)
            if not np.isfinite(stored).all():
                largest = float(np.abs(np.asarray(value, np.float64)).max())
                raise StoryjaxError(
                    f"'{name}' of stories {self.written}..{self.written + stories - 1} does not fit {self.dtype.name} (largest "
                    f"value {largest:.4g}); pass dtype=np.float32"
                )
            self._files[name].write(stored.tobytes())
        self.written += stories

    def save(self) -> None:
        """Everything appended so far is on the disk and will be kept."""
        for file in self._files.values():
            file.flush()
            os.fsync(file.fileno())
        self.done = self.written
        self._write_json("progress.json", {"done": self.done, "shapes": self.shapes})

    def finish(self, folder: Path) -> None:
        self.save()
        means = {name: (total / self.stories).tolist() for name, total in self.sums.items()}
        self._write_json("cache.json", {"stories": self.stories, "shapes": self.shapes, "mean": means})
        (self.folder / "progress.json").unlink()
        self.close()
        old = folder.with_name(f"{folder.name}.old-{os.getpid()}")
        if folder.exists():
            os.replace(folder, old)
        os.replace(self.folder, folder)
        shutil.rmtree(old, ignore_errors=True)

    def close(self) -> None:
        for file in self._files.values():
            with contextlib.suppress(OSError):  # unwritten rows on a full disk: the error is already on its way
                file.close()
        self._files = {}

    def _open(self, name: str, shape: list[int]) -> None:
        """The file of one array with its rows up to `done`: header first, for all the stories to come."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.shapes[name] = shape
        file = self._files[name] = open(self.folder / f"{name}.npy", "r+b" if self.done else "w+b")  # noqa: SIM115
        header = {
            "descr": np.lib.format.dtype_to_descr(self.dtype),
            "fortran_order": False,
            "shape": (self.stories, *shape),
        }
        np.lib.format.write_array_header_1_0(file, header)
        file.seek(file.tell() + self.done * math.prod(shape) * self.dtype.itemsize)
        file.truncate()

    def _write_json(self, name: str, content: dict[str, Any]) -> None:
        sums = {name: total.tolist() for name, total in self.sums.items()}
        content = {"fingerprint": self.fingerprint, "sums": sums, **content}
        partial = self.folder / f"{name}.new"
        partial.write_text(json.dumps(content, indent=1))
        os.replace(partial, self.folder / name)


class CachedSource(StorySource):
    """A source with the cached arrays of `folder` joined to its fields; the base's pictures are not decoded for them.

    Cached arrays come as float32. Sources nest: `CachedSource(CachedSource(base, latents), text_states)`. `fingerprint` is
    what `build_cache` was given; `means` are the float64 means kept with the cache.

    Errors: no cache, an incomplete one, or one made from other stories or weights (naming what differs).
    """

    def __init__(self, base: StorySource, folder: str | Path, fingerprint: Mapping[str, Any]):
        self.base, self.folder = base, Path(folder)
        note = _read_note(self.folder)
        made = {name: note["fingerprint"].get(name) for name in ("dtype", "means")}
        wanted = {"source": base.fingerprint(), **json.loads(json.dumps(fingerprint)), **made}
        _check_fingerprint(
            self.folder, note["fingerprint"], wanted, "; or build it again with build_cache(..., rebuild=True)"
        )
        self.name, self.split, self.table, self.labels = base.name, base.split, base.table, base.labels
        self.frames, self.size, self.given, self.has_strips = base.frames, base.size, base.given, base.has_strips
        self.means = {name: np.asarray(value, np.float64) for name, value in note["mean"].items()}
        self._names, self._stories = tuple(note["shapes"]), note["stories"]
        self._open()

    def _open(self) -> None:
        self._arrays = {name: np.load(self.folder / f"{name}.npy", mmap_mode="r") for name in self._names}
        wrong = next((name for name, array in self._arrays.items() if len(array) != self._stories), None)
        if wrong:
            raise StoryjaxError(
                f"cache '{self.folder}': '{wrong}.npy' does not hold {self._stories} stories; build it again"
            )

    @property
    def fields(self) -> tuple[str, ...]:
        return (*self.base.fields, *self._names)

    def arrays(
        self, index: int, fields: Sequence[str], rng: np.random.Generator | None = None
    ) -> dict[str, np.ndarray]:
        out = self.base.arrays(index, [name for name in fields if name not in self._arrays], rng)
        return out | {name: self._arrays[name][index].astype(np.float32) for name in fields if name in self._arrays}

    def images(self, index: int) -> np.ndarray:
        return self.base.images(index)

    def random_images(self, index: int, rng: np.random.Generator) -> np.ndarray:
        return self.base.random_images(index, rng)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.base[index]

    def fingerprint(self) -> dict[str, Any]:
        return self.base.fingerprint()

    def __getstate__(self) -> dict[str, Any]:
        """For worker processes: files are opened again there (a pickled memory map would carry all its data)."""
        return {name: value for name, value in vars(self).items() if name != "_arrays"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._open()


def _read_note(folder: Path) -> dict[str, Any]:
    try:
        return json.loads((folder / "cache.json").read_text())
    except FileNotFoundError:
        raise StoryjaxError(f"no cache in '{folder}' (cache.json is missing); make it with build_cache") from None
    except json.JSONDecodeError as error:
        raise StoryjaxError(
            f"'{folder / 'cache.json'}' is damaged ({error}); remove the folder and build it again"
        ) from None


def _check_fingerprint(folder: Path, found: dict[str, Any], wanted: dict[str, Any], remedy: str) -> None:
    """Error naming every entry in which a cache and what is wanted from it differ."""
    flat_found, flat_wanted = _flat(found), _flat(wanted)
    different = [
        f"{name} is {flat_found.get(name)!r}, wanted {flat_wanted.get(name)!r}"
        for name in sorted(flat_found | flat_wanted)
        if flat_found.get(name) != flat_wanted.get(name)
    ]
    if different:
        raise StoryjaxError(
            f"the cache '{folder}' was made from something else: {'; '.join(different)}; remove it{remedy}"
        )


def _flat(mapping: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    out: dict[str, Any] = {}
    for name, value in mapping.items():
        out |= _flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
    return out
