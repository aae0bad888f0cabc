"""Draw single pictures of a prompt into files."""

import warnings
from pathlib import Path
from typing import Any

from storyjax.api.models import model_folder
from storyjax.api.stories import slug
from storyjax.errors import StoryjaxError


def generate_image(
    prompt: str,
    *,
    model: str | Path,
    out: str | Path | None = None,
    images: int = 1,
    negative: str | None = None,
    image: str | Path | None = None,
    mask: str | Path | None = None,
    height: int | None = None,
    width: int | None = None,
    steps: int | None = None,
    guidance: float | None = None,
    guidance_rescale: float | None = None,
    sampler: str | None = None,
    seed: int = 0,
    dtype: str | None = None,
    variant: str | None = None,
    revision: str | None = None,
    ema: bool = False,
    prediction: str | None = None,
    tokenizer: str | Path | None = None,
    overwrite: bool = False,
    progress: bool = True,
) -> list[Path]:
    """Draw pictures of a prompt with a Stable Diffusion model, write them as PNG files and say where they are.

    model: as for `load`. out: a .png; several are numbered (fox-1.png, ...); default: images/<the prompt's words>.png. images: how
    many, with the seeds n, n + 1, ... image, mask: for inpainting models, files: the picture, and white where to paint anew.
    dtype: of the networks; default: bfloat16 on an accelerator, float32 on a CPU. variant, revision, ema, prediction, tokenizer: as
    for `load`. The rest: the model's own where None.

    Each file's text fields (`storyjax.story.picture_files.read_said`) hold prompt, seed, settings and the SHA-256 of the model's
    weights. Errors come before any drawing: a file that exists (without `overwrite`), a model of another system, a bad setting.
    """
    import jax
    from tqdm import tqdm

    from storyjax.diffusion.samplers import Sampler
    from storyjax.story.picture_files import check_free, picture_paths, write_picture
    from storyjax.systems.stable_diffusion.pipeline import StableDiffusionPipeline
    from storyjax.weights.checkpoint import weights_hash
    from storyjax.weights.finite import dtype_named
    from storyjax.weights.layouts import recognise

    if images < 1:
        raise StoryjaxError(f"expected at least 1 picture, got images={images}")
    if sampler is not None:
        Sampler(sampler)  # type: ignore[arg-type]  # a wrong name is told before gigabytes are read
    paths = picture_paths(Path("images") / f"{slug(prompt)[:60]}.png" if out is None else out, images)
    check_free(paths, overwrite)
    place = model_folder(model, variant=variant, revision=revision)
    checkpoint = recognise(place, variant=variant, ema=ema, prediction=prediction, tokenizer=tokenizer)
    if checkpoint.system.name != "stable_diffusion":
        raise StoryjaxError(
            f"'{model}' is a model of system '{checkpoint.system.name}', which draws stories; use `storyjax generate`, or a "
            "Stable Diffusion model here"
        )
    chosen = dtype or ("float32" if jax.default_backend() == "cpu" else "bfloat16")
    pipeline = StableDiffusionPipeline.of(checkpoint, dtype=dtype_named(chosen))
    settings = {
        "negative_prompt": negative,
        "image": image,
        "mask_image": mask,
        "height": height,
        "width": width,
        "num_inference_steps": steps,
        "guidance_scale": guidance,
        "guidance_rescale": guidance_rescale,
        "sampler": sampler,
    }
    said = _said_of_picture(pipeline.config, prompt, settings) | {
        "dtype": chosen,
        "model": str(model),
        "model_hash": weights_hash(checkpoint),
    }
    for i, path in enumerate(tqdm(paths, desc="drawing", unit="picture", disable=not progress)):
        drawn = pipeline(prompt, seed=seed + i, output_type="np", **settings)
        for note in drawn.notes if i == 0 else ():
            warnings.warn(note, stacklevel=2)
        write_picture(path, drawn.images[0], said | {"seed": str(seed + i)})
    return paths


def _said_of_picture(config: Any, prompt: str, settings: dict[str, Any]) -> dict[str, str]:
    """What a picture file says of how it was made: every setting as it was used."""
    from storyjax import __version__
    from storyjax.config import to_json

    used = {
        name: getattr(config.defaults, name) for name in ("num_inference_steps", "guidance_scale", "guidance_rescale")
    }
    used |= {"height": config.size[0], "width": config.size[1], "sampler": config.defaults.sampler}
    used |= {name: value for name, value in settings.items() if value is not None}
    sampler = used.pop("sampler")
    if not isinstance(sampler, str):
        set_options = {name: value for name, value in to_json(sampler).items() if name != "name" and value}
        sampler = " ".join([sampler.name, *(f"{name}={value}" for name, value in set_options.items())])
    used = {"steps" if name == "num_inference_steps" else name: str(value) for name, value in used.items()}
    return {"prompt": prompt, **used, "sampler": sampler, "software": f"storyjax {__version__}"}
