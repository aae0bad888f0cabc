"""Everything about a Stable Diffusion model but its weights, and how it is best sampled."""

import dataclasses

from storyjax.diffusion.samplers import Sampler
from storyjax.diffusion.schedule import ScheduleConfig
from storyjax.errors import StoryjaxError
from storyjax.models.clip_text import CLIPTextConfig
from storyjax.models.unet import UNetConfig
from storyjax.models.vae import VAEConfig

TIME_IDS = (
    6  # numbers that SDXL is told of a picture: original height and width, top and left of the crop, height and width
)


@dataclasses.dataclass(frozen=True)
class Defaults:
    """How a model is best sampled; each is an argument of the call."""

    num_inference_steps: int = 50
    guidance_scale: float = 7.5  # 5.0 for SDXL
    guidance_rescale: float = 0.0
    sampler: Sampler = Sampler()


@dataclasses.dataclass(frozen=True)
class StableDiffusionConfig:
    """Stable Diffusion 1.x and 2.x have one text encoder, SDXL has two; an inpainting model's UNet reads 9 channels."""

    unet: UNetConfig
    text_encoder: CLIPTextConfig
    vae: VAEConfig
    text_encoder_2: CLIPTextConfig | None = None
    schedule: ScheduleConfig = ScheduleConfig.sd15()
    size: tuple[int, int] = (512, 512)  # height and width of a picture unless another is asked for
    zero_empty_prompt: bool = False  # SDXL: no negative prompt means zeros in the place of its encoding
    defaults: Defaults = Defaults()

    def __post_init__(self) -> None:
        self._check_channels()
        self._check_text()
        self.check_size(*self.size)

    @property
    def inpaints(self) -> bool:
        """Whether the UNet also reads a mask and the latents of a masked picture."""
        return self.unet.in_channels == 2 * self.vae.latent_channels + 1

    def check_size(self, height: int, width: int) -> None:
        """Raise unless pictures can have this size: any multiple of the codec's factor."""
        factor = self.vae.factor
        if height % factor or width % factor or min(height, width) < factor:
            raise StoryjaxError(
                f"expected a height and width divisible by {factor}, got {width}x{height} (width x height); "
                f"{max(1, round(width / factor)) * factor}x{max(1, round(height / factor)) * factor} would do"
            )

    def _check_channels(self) -> None:
        latent, unet = self.vae.latent_channels, self.unet
        if unet.out_channels != latent or unet.in_channels not in (latent, 2 * latent + 1):
            raise StoryjaxError(
                f"the codec has {latent} latent channels, but the UNet reads {unet.in_channels} and predicts {unet.out_channels}; "
                f"expected {latent} and {latent}, or {2 * latent + 1} and {latent} for inpainting"
            )

    def _check_text(self) -> None:
        second, unet = self.text_encoder_2, self.unet
        width = self.text_encoder.width + (second.width if second else 0)
        if unet.cross_attention_dim != width:
            raise StoryjaxError(
                f"the text encoders are {width} wide together, but the UNet's cross_attention_dim is {unet.cross_attention_dim}; "
                "they belong to different models"
            )
        if (unet.addition is not None) != (second is not None):
            raise StoryjaxError(
                f"the UNet has {'an' if unet.addition else 'no'} addition 'text_time', but there is "
                f"{'a' if second else 'no'} text_encoder_2 to give it the pooled text; SDXL has both, the others neither"
            )
        if second is not None:
            pooled = unet.addition_inputs - TIME_IDS * unet.addition_time_width
            if second.projection != pooled:
                raise StoryjaxError(
                    f"text_encoder_2 gives pooled text of width {second.projection}, the UNet expects {pooled} beside {TIME_IDS} "
                    "numbers of the picture's size; they belong to different models (SDXL's refiner is not built here)"
                )
