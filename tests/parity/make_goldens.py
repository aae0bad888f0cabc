"""Writes the golden of continuation that the official ones lack: its loss, its gradients, and sampling with two scales.

    python -m tests.parity.make_goldens

The outputs are those of the PyTorch implementation beside this file. Weights and inputs are functions of their names, so the
file holds outputs only, and the JAX side can be held against it where there is no PyTorch.
"""

import numpy as np
import torch

from tests.goldens import make_inputs as inputs
from tests.parity.contextual_story_diffusion_torch import Guidance, ddim_trajectory, training_step
from tests.parity.contextual_story_torch import Sizes, StoryUNet

SIZES = Sizes(
    channels=inputs.TINY.channels,
    attention=(True, False),
    heads=(4, 4),
    layers=inputs.TINY.layers,
    context=inputs.TINY.text,
    groups=8,
    frames=inputs.TINY.frames,
    contextualizer_layers=inputs.TINY.text_layers,
    continuation=True,
)
FILE = inputs.FOLDER / "tiny_sc.npz"


def outputs() -> dict[str, np.ndarray]:
    """`loss`; `grad_norms` of the parameters in alphabetical order, NaN where there is none; `traj`, the latents
    before each step and after the last."""
    shapes = inputs.official_shapes(inputs.TINY, continuation=True)
    with torch.device("meta"):
        unet = StoryUNet(SIZES).eval()
    weights = inputs.named_weights(shapes)
    unet.load_state_dict({name: torch.from_numpy(np.asarray(value)) for name, value in weights.items()}, assign=True)
    given = {name: torch.from_numpy(value) for name, value in inputs.tiny_continuation().items()}
    loss, _ = training_step(
        unet,
        given["x0"],
        given["noise"],
        torch.tensor([17, 731]),
        given["text"],
        given["null_text"],
        torch.tensor([False, True]),
    )
    loss.backward()
    norms = [
        np.nan if parameter.grad is None else float(parameter.grad.double().norm())
        for _, parameter in sorted(unet.named_parameters())
    ]
    null = given["null_text"].repeat(2, 1, 1)
    path = ddim_trajectory(
        unet, given["noise"], null, given["text"], given["motion"], 4, Guidance(7.5, 1.5), given["first_frame"]
    )
    return {"loss": loss.detach().numpy(), "grad_norms": np.array(norms), "traj": torch.stack(path).numpy()}


if __name__ == "__main__":
    np.savez_compressed(FILE, **outputs())
    print(f"{FILE}: {FILE.stat().st_size} bytes")
