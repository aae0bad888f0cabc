"""ContextualStory's training loss and its sampling in PyTorch. The schedule's arithmetic is diffusers' own."""

import dataclasses

import torch
from diffusers import DDIMScheduler
from torch import Tensor

from tests.parity.contextual_story_torch import StoryUNet


def scheduler() -> DDIMScheduler:
    """The schedule the published models were trained with: linear where Stable Diffusion's is scaled linear."""
    return DDIMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="linear", clip_sample=False, steps_offset=1)


def story_loss(prediction: Tensor, noise: Tensor, timesteps: Tensor, gamma: float = 5.0) -> Tensor:
    """Squared error of every story (B, 4, F, H, W), weighted by min(SNR, gamma) / SNR at its timestep (B,)."""
    kept = scheduler().alphas_cumprod[timesteps]
    snr = kept / (1 - kept)
    per_story = (prediction.float() - noise).square().flatten(1).mean(dim=1)
    return (per_story * snr.clamp(max=gamma) / snr).mean()


def training_step(unet: StoryUNet, x0: Tensor, noise, timesteps, text, null_text, is_null) -> tuple[Tensor, Tensor]:
    """Loss and prediction: x0 and noise (B, 4, F, H, W), timesteps (B,). Continuation sees x0's frame 0 and learns the rest."""
    kept = scheduler().alphas_cumprod[timesteps].view(-1, 1, 1, 1, 1)
    noisy = kept.sqrt() * x0 + (1 - kept).sqrt() * noise
    motion = (x0[:, :, 1:] - x0[:, :, :-1]).square().sum(dim=(1, 3, 4)).sqrt().long()
    times, first_frame = timesteps.repeat_interleave(x0.shape[2]), None
    if unet.sizes.continuation:
        first_frame, noisy, noise = x0[:, :, :1], noisy[:, :, 1:], noise[:, :, 1:]
    prediction = unet.training_form(noisy, times, text, null_text, is_null, motion, first_frame)
    return story_loss(prediction, noise, timesteps), prediction


@dataclasses.dataclass(frozen=True)
class Guidance:
    """Scales; `image` above 1 is the form with three copies, which continuation alone has."""

    text: float = 7.5
    image: float = 1.0

    def combine(self, out: Tensor) -> Tensor:
        if self.image <= 1:
            uncond, cond = out.chunk(2)
            return uncond + self.text * (cond - uncond)
        uncond, image, both = out.chunk(3)
        return uncond + self.image * (image - uncond) + self.text * (both - image)


@torch.no_grad()
def ddim_trajectory(
    unet: StoryUNet, start: Tensor, uncond_text, text, motion, steps: int, guidance: Guidance, first_frame=None
) -> list[Tensor]:
    """Latents before each step and after the last. start (B, 4, F, H, W): in continuation its frame 0 is not denoised but, in
    the three-copy form, is the unconditional first frame at every step; first_frame (B, 4, 1, H, W)."""
    ddim, copies = scheduler(), 2 if guidance.image <= 1 else 3
    ddim.set_timesteps(steps)
    latents, first_frames = start, None
    if first_frame is not None:
        latents = start[:, :, 1:]
        first_frames = torch.cat([first_frame if copies == 2 else start[:, :, :1]] + [first_frame] * (copies - 1))
    path = [latents]
    for timestep in ddim.timesteps:
        repeated = torch.cat([latents] * copies)
        out = unet.guided_form(repeated, timestep, uncond_text, text, motion, copies, first_frames)
        latents = ddim.step(guidance.combine(out), timestep, latents).prev_sample
        path.append(latents)
    return path
