"""Training step of Stable Diffusion 2.1's UNet on 512x512 pictures, as MLPerf Training measures it: latents and text cached."""

from typing import Any

import jax

from benchmarks import torch_sides
from benchmarks.measure import Row, Setting, Side, compare
from benchmarks.torch_training import noised, training_sides
from benchmarks.training import sd21_training

BATCH = 32  # of one device, MLPerf's


def run(setting: Setting) -> list[Row]:
    """Training step of the UNet of Stable Diffusion 2.1, 512x512, AdamW and averages included."""
    usual = 1 if jax.default_backend() == "cpu" else BATCH
    batch, training = setting.batch or (usual if setting.full else 2), sd21_training(setting.full)
    sides, given = [training.side(setting, batch)], training.draw(batch)
    if setting.against:
        sides += _diffusers(setting, given)
    conditions = {"batch": batch, "pixels": 8 * given["latents"].shape[1], "latents and text": "cached"}
    return compare("training step", sides, setting, conditions, items=batch, unit="image")


def _diffusers(setting: Setting, given: Any) -> list[Side]:
    latents = torch_sides.channels_first(torch_sides.tensor(given["latents"]))
    text = torch_sides.tensor(given["text"])

    def loss(model: Any) -> Any:
        noisy, noise, times = noised(latents)
        return (model(noisy, times, text).sample.float() - noise).square().mean()

    return training_sides(setting, torch_sides.network("unet-sd21", setting, dtype="float32"), loss)
