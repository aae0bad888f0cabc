"""What diffusers draws with the toy models of tests/tiny_sd.py, handed over as exported folders; and the stored results.

`python -m tests.systems.stable_diffusion.diffusers_draws` writes the stored results anew (needs PyTorch and diffusers).
"""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from tests import tiny, tiny_sd

FILE = Path(__file__).parents[2] / "goldens" / "stable_diffusion" / "latents.npz"
PROMPTS = ["Ada walks to the lake.", "She swims in it."]
# Arguments that both sides understand.
DRAWS: dict[str, dict[str, Any]] = {
    "sd15": {"negative_prompt": ["the lake", "sleeps"], "guidance_scale": 6.0},
    "sd21_v": {"guidance_rescale": 0.7, "guidance_scale": 6.0},
    "sdxl": {"original_size": (12, 20), "crops_coords_top_left": (3, 5), "guidance_scale": 6.0},
}


def start() -> np.ndarray:
    """Start noise (2, h, w, C)."""
    return np.random.default_rng(1).standard_normal((len(PROMPTS), 8, 8, 4)).astype(np.float32)


def by_diffusers(kind: str, folder: Path) -> np.ndarray:
    """Final latents (2, h, w, C)."""
    import diffusers
    import torch

    from storyjax.weights.export import export

    tokenizer = folder / "tokenizer"
    if not tokenizer.is_dir():
        tiny.tokenizer_folder(tokenizer)
    exported = folder / f"{kind}_exported"
    export(tiny_sd.folder(kind, tokenizer, folder / kind), exported, progress=False)
    pipeline = diffusers.DiffusionPipeline.from_pretrained(
        exported, **({} if kind == "sdxl" else {"safety_checker": None})
    )
    pipeline.set_progress_bar_config(disable=True)
    latents = torch.from_numpy(np.ascontiguousarray(start().transpose(0, 3, 1, 2)))
    steps = tiny_sd.CONFIGS[kind].defaults.num_inference_steps
    settings = {"num_inference_steps": steps, "height": tiny_sd.SIZE, "width": tiny_sd.SIZE, "output_type": "latent"}
    return pipeline(PROMPTS, latents=latents, **settings, **DRAWS[kind]).images.numpy().transpose(0, 2, 3, 1)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        np.savez_compressed(FILE, **{kind: by_diffusers(kind, Path(place)) for kind in DRAWS})
    print(f"{FILE}: {FILE.stat().st_size} bytes")
