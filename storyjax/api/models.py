"""Models by path, by name or from the hub."""

import importlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from storyjax.config import nearest
from storyjax.errors import StoryjaxError

SHIPPED = Path(__file__).parents[1] / "shipped"
STORY_SYSTEMS = ("contextual_story",)
HUB_NAME = re.compile(r"\w[\w.-]*/[\w./-]+")  # "org/name" or "org/name/file", unless a folder "org" lies here


def load(
    model: str | Path = "cartoon",
    *,
    dtype: Any = "float32",
    variant: str | None = None,
    revision: str | None = None,
    ema: bool = False,
    prediction: str | None = None,
    tokenizer: str | Path | None = None,
    sharding: Any = None,
    allow_unused: Sequence[str] = (),
    mesh: Any = None,
) -> Any:
    """The pipeline of a model: one that ships ("cartoon"), a folder (ours or diffusers'), a single Stable Diffusion file, a
    Hugging Face Hub name ("org/name"), or a folder in a bucket ("gs://bucket/model").

    dtype: of the parameters, "float32", "bfloat16" or "float16". sharding: (dotted path, shape) -> jax.sharding.Sharding; each
    parameter is created once, in its dtype, where it says. mesh: devices that share the work of drawing a story, a
    jax.sharding.Mesh or its text ("data=8"). The rest: as `storyjax.convert`.

    Errors: nothing of that name (naming the nearest), no model, one that no system here reads, a missing or damaged file.
    """
    from storyjax.weights.finite import dtype_named
    from storyjax.weights.layouts import recognise

    wanted = dtype_named(dtype) if isinstance(dtype, str) else dtype
    place = model_folder(model, variant=variant, revision=revision)
    checkpoint = recognise(place, variant=variant, ema=ema, prediction=prediction, tokenizer=tokenizer)
    module = importlib.import_module(f"storyjax.systems.{checkpoint.system.name}.pipeline")
    if mesh is not None and checkpoint.system.name not in STORY_SYSTEMS:
        raise StoryjaxError(
            f"'{model}' draws single pictures, on one device; leave mesh out, or place its parameters by sharding"
        )
    shared = {} if mesh is None else {"mesh": _mesh_of(mesh)}
    return module.Pipeline.of(checkpoint, dtype=wanted, sharding=sharding, allow_unused=allow_unused, **shared)


def require_stories(model: str | Path) -> None:
    """Raise, before gigabytes are read, unless the model draws stories."""
    from storyjax.weights.layouts import recognise

    system = recognise(model_folder(model)).system.name
    if system not in STORY_SYSTEMS:
        raise StoryjaxError(
            f"'{model}' is a model of system '{system}', which draws single pictures; use `storyjax image`, or a story model here"
        )


def _mesh_of(mesh: Any) -> Any:
    """A mesh from its text."""
    from storyjax.parallel.mesh import make_mesh

    return make_mesh(mesh) if isinstance(mesh, str) else mesh


def model_folder(model: str | Path, *, variant: str | None = None, revision: str | None = None) -> Path:
    """Where a model lies: a path as it is, a shipped model's name as its folder, a hub name or a gs:// address as what
    was downloaded of it.

    A folder of a shipped model's name that holds no model is not meant.
    """
    from storyjax.checkpoints.paths import is_local
    from storyjax.checkpoints.remote import fetched

    if not is_local(model):
        return fetched(model)
    path = Path(model)
    shipped = sorted(folder.name for folder in SHIPPED.iterdir() if folder.is_dir()) if SHIPPED.is_dir() else []
    if str(model) in shipped and not (path / "model_index.json").is_file():
        return SHIPPED / str(model)
    if path.exists():
        return path
    if HUB_NAME.fullmatch(str(model)) and not Path(path.parts[0]).is_dir():
        from storyjax.weights.hub import locate

        return locate(str(model), revision=revision, variant=variant)
    raise StoryjaxError(
        f"there is no model folder at '{model}' and no shipped model of that name"
        f"{nearest(str(model), shipped) if shipped else ''}"
    )
