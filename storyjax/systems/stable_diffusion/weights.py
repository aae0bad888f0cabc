"""What a Stable Diffusion checkpoint consists of. Its networks are the base models': their tables lie in `storyjax/weights/`."""

from typing import TYPE_CHECKING, Any

from storyjax.config import to_json
from storyjax.systems.stable_diffusion.config import Defaults
from storyjax.weights.system import System, register_system

if TYPE_CHECKING:
    from storyjax.weights.checkpoint import Checkpoint


def settings(checkpoint: "Checkpoint") -> dict[str, Any]:
    """`size`: height and width of the pictures it was trained on. `zero_empty_prompt`: whether no negative prompt means zeros in
    the place of its encoding, as SDXL was trained (`force_zeros_for_empty_prompt`, which is on there unless the index says
    otherwise). `defaults`: steps and guidance as diffusers' pipelines have them, and the sampler that the scheduler names."""
    xl = "text_encoder_2" in checkpoint.parts
    original = checkpoint.parts["unet"].original or {}
    side = original.get("sample_size") or (128 if xl else 64)
    height, width = (side, side) if isinstance(side, int) else side
    factor = checkpoint.parts["vae"].config.factor
    return {
        "size": [height * factor, width * factor],
        "zero_empty_prompt": bool(checkpoint.index.get("force_zeros_for_empty_prompt", xl)),
        "defaults": to_json(Defaults(guidance_scale=5.0 if xl else 7.5, sampler=checkpoint.sampler)),
    }


def index(checkpoint: "Checkpoint") -> dict[str, Any]:
    """The pipeline class of diffusers that draws with such a model, and what it has to know beside the parts."""
    xl = "XL" if "text_encoder_2" in checkpoint.parts else ""
    vae = checkpoint.parts["vae"].config
    inpaint = "Inpaint" if checkpoint.parts["unet"].config.in_channels != vae.latent_channels else ""
    more = {"force_zeros_for_empty_prompt": checkpoint.settings["zero_empty_prompt"]} if xl else {}
    return {"_class_name": f"StableDiffusion{xl}{inpaint}Pipeline", **more}


register_system(
    System(
        name="stable_diffusion",
        pipelines=(
            "StableDiffusionPipeline",
            "StableDiffusionImg2ImgPipeline",
            "StableDiffusionInpaintPipeline",
            "StableDiffusionXLPipeline",
            "StableDiffusionXLImg2ImgPipeline",
            "StableDiffusionXLInpaintPipeline",
        ),
        parts={"unet": "unet", "text_encoder": "clip_text", "vae": "vae"},
        settings=settings,
        index=index,
    )
)
