"""The verbs that draw: `generate` a story, `image` a single picture."""

from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

# Those of storyjax.diffusion.samplers, which takes long to import.
SamplerName = Literal["ddim", "plms", "euler", "euler_a", "dpm++"]


def generate(
    story: Annotated[Path | None, arg(name="story")] = None,
    /,
    *,
    sentences: tuple[str, ...] = (),
    model: str | None = None,
    out: Path | None = None,
    image: Path | None = None,
    from_manifest: Path | None = None,
    seed: int | None = None,
    steps: int | None = None,
    guidance: float | None = None,
    sampler: SamplerName | None = None,
    negative: str | None = None,
    method: Literal["windows", "chain"] | None = None,
    overlap: int | None = None,
    anchors: int | None = None,
    windows_at_once: int | None = None,
    mesh: str | None = None,
    overwrite: bool = False,
) -> None:
    """Draw a story: a strip, a comic page, a GIF, a web page and the manifest that makes it again.

    Args:
        story: A story file (JSON or YAML).
        sentences: The sentences themselves, one for each frame (1 to 1,000), instead of a file.
        model: A model folder, or the name of a model that ships; default: cartoon.
        out: Where to write; default: stories/<name of the story>.
        image: A first picture to continue from (story continuation).
        from_manifest: Draw again what this manifest (or the folder it lies in) says, with all its settings.
        seed: The same seed gives the same pictures; default: 0.
        steps: Sampling steps; default: the model's.
        guidance: Scale of the text guidance; default: the model's.
        sampler: Sampling method; default: the model's.
        negative: What should not be seen.
        method: For stories longer than the model's: windows (default; all frames together) or chain (one part after the other).
        overlap: Frames that neighbouring windows share; default: every frame is in two.
        anchors: Earlier frames that each window sees besides its own; default: 0.
        windows_at_once: Windows that a device denoises at a time; fewer take less memory; default: 8.
        mesh: Devices that share the work, such as data=4; default: all.
        overwrite: Replace an earlier storyboard in the same folder.
    """
    from storyjax.api import generate_story

    paths = generate_story(
        story,
        sentences=sentences,
        model=model,
        out=out,
        image=image,
        from_manifest=from_manifest,
        seed=seed,
        steps=steps,
        guidance=guidance,
        sampler=sampler,
        negative=negative,
        method=method,
        overlap=overlap,
        anchors=anchors,
        windows_at_once=windows_at_once,
        mesh=mesh,
        overwrite=overwrite,
    )
    width = max(map(len, paths))
    for name, path in paths.items():
        print(f"{name:<{width}}  {path}")


def image(
    prompt: Positional[str],
    /,
    *,
    model: str,
    out: Path | None = None,
    images: int = 1,
    negative: str | None = None,
    image: Path | None = None,
    mask: Path | None = None,
    height: int | None = None,
    width: int | None = None,
    steps: int | None = None,
    guidance: float | None = None,
    guidance_rescale: float | None = None,
    sampler: SamplerName | None = None,
    seed: int = 0,
    dtype: Literal["float32", "bfloat16", "float16"] | None = None,
    variant: str | None = None,
    revision: str | None = None,
    ema: bool = False,
    prediction: Literal["epsilon", "v_prediction"] | None = None,
    tokenizer: Path | None = None,
    overwrite: bool = False,
) -> None:
    """Draw a picture of a prompt with Stable Diffusion 1.x, 2.x or XL: `storyjax image "a fox in the snow" --model FOLDER`.

    Args:
        prompt: What should be seen.
        model: A Stable Diffusion model: a diffusers or storyjax folder, a single checkpoint file, or a Hugging Face Hub name.
        out: The picture file, ending in .png; default: images/<words of the prompt>.png.
        images: How many pictures, with the seeds that follow each other.
        negative: What should not be seen.
        image: For inpainting models: the picture to paint in.
        mask: For inpainting models: a picture that is white where to paint anew.
        height: In pixels, a multiple of 8; default: the model's.
        width: In pixels, a multiple of 8; default: the model's.
        steps: Sampling steps; default: 50.
        guidance: Scale of the text guidance; default: the model's.
        guidance_rescale: Share (0..1) of the guided contrast that is set back; default: 0.
        sampler: Sampling method; default: the checkpoint's own.
        seed: The same seed gives the same picture.
        dtype: Of the networks; default: bfloat16 on an accelerator, float32 on a CPU.
        variant: Which of several weight files of a folder, such as fp16.
        revision: Branch, tag or commit of a model on the hub.
        ema: The averaged weights of a single file that has both.
        prediction: What a single file's UNet predicts, where the file does not say.
        tokenizer: A folder with CLIP's tokenizer for a single file, which has none; default: from the hub.
        overwrite: Replace a picture file that exists.
    """
    from storyjax.api import generate_image

    paths = generate_image(
        prompt,
        model=model,
        out=out,
        images=images,
        negative=negative,
        image=image,
        mask=mask,
        height=height,
        width=width,
        steps=steps,
        guidance=guidance,
        guidance_rescale=guidance_rescale,
        sampler=sampler,
        seed=seed,
        dtype=dtype,
        variant=variant,
        revision=revision,
        ema=ema,
        prediction=prediction,
        tokenizer=tokenizer,
        overwrite=overwrite,
    )
    print("\n".join(map(str, paths)))
