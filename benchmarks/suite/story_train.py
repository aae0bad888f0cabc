"""Training step of the full-size ContextualStory: six stories of five 256x256 frames, optimizer and averages included.

Latents and captions are cached on both sides. The first row is one optimizer step of six stories, the second of twelve in two
micro-batches, as the paper trains on PororoSV.
"""

from typing import Any

from benchmarks import torch_sides
from benchmarks.measure import Row, Setting, Side, compare
from benchmarks.sides import TOKENS
from benchmarks.torch_training import noised, training_sides
from benchmarks.training import story_training


def run(setting: Setting) -> list[Row]:
    """Training step of ContextualStory: 6 stories of 5 frames, 256x256, AdamW and averages included."""
    batch, training = setting.batch or (6 if setting.full else 2), story_training(setting.full)
    rows: list[Row] = []
    for parts in (1, 2) if setting.full else (1,):
        stories = batch * parts
        sides = [training.side(setting, stories, parts)]
        given = training.draw(stories)
        if setting.against and parts == 1:
            sides += _torch(setting, given)
        conditions = {
            "batch": f"{batch} x {parts} accumulated" if parts > 1 else batch,
            "frames": given["text"].shape[1],
            "pixels": 8 * given["latents_mean"].shape[2],
            "latents and text": "cached",
        }
        rows += compare("training step", sides, setting, conditions, items=stories, unit="story")
        del sides  # the next state needs the room
    return rows


def _torch(setting: Setting, given: Any) -> list[Side]:
    """The published training form: one timestep a story, noise predicted."""
    import torch

    latents = torch_sides.channels_first(torch_sides.tensor(0.18215 * given["latents_mean"]))
    text = torch_sides.tensor(given["text"]).flatten(0, 1)
    stories, frames = given["text"].shape[:2]
    null = torch.zeros(frames, TOKENS, text.shape[-1], device=text.device)
    motion = torch.full((stories, frames - 1), 50.0, device=text.device)

    def loss(model: Any) -> Any:
        noisy, noise, times = noised(latents)
        dropped = torch.rand(stories, device=text.device) < 0.1
        out = model(noisy, times.repeat_interleave(frames), text, null, dropped, motion)
        return (out.float() - noise).square().mean()

    model = torch_sides.network("contextual-story", setting, dtype="float32")
    return training_sides(setting, torch_sides.training_form(model), loss)
