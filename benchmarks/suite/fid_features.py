"""Features for FID: pictures a second through Inception-v3, from uint8 on as a metric takes them, against PyTorch.

PyTorch's side is the same network in its own layers (`benchmarks/torch_inception.py`), channels last, the whole batch at once.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import torch_sides
from benchmarks.measure import Row, Setting, Side, compare
from benchmarks.sides import NAME, random_params
from storyjax.evals.networks.features import FeatureNetwork, Preparation
from storyjax.evals.networks.published_networks import FID_INPUT, pooled
from storyjax.models.inception import Inception, InceptionConfig
from storyjax.nn.build import abstract, bind, flatten, unflatten
from storyjax.nn.flops import count_flops

PIXELS = 64  # of PororoSV's frames
TOY = InceptionConfig("fid", 8, shrink=16)


def run(setting: Setting) -> list[Row]:
    """Features of Inception-v3 for FID: pictures of 64 pixels enlarged to 299, in float32 on all sides."""
    setting = dataclasses.replace(setting, dtype="float32")
    config, prepare = (InceptionConfig.fid(), FID_INPUT) if setting.full else (TOY, Preparation((80, 80)))
    batch = setting.batch or (16 if setting.full else 2)
    pictures = np.random.default_rng(0).integers(0, 256, (batch, PIXELS, PIXELS, 3), dtype=np.uint8)
    graphdef, shapes = abstract(lambda rngs: Inception(config, rngs=rngs))
    params = unflatten(
        {
            path: 0.5 + jnp.abs(leaf) if path.endswith("variance") else leaf
            for path, leaf in flatten(random_params(shapes, "float32")).items()
        }
    )
    network = FeatureNetwork(graphdef, params, pooled, prepare, batch=batch, devices=jax.devices()[:1])
    flops = count_flops(lambda params, x: pooled(bind(graphdef, params), prepare(x)), shapes, pictures)
    sides = [Side(NAME, lambda: network(pictures), wait=lambda rows: rows, flops=flops)]
    if setting.against:
        sides += _torch(setting, pictures, prepare)
    conditions = {"batch": batch, "pixels": prepare.size[0] if prepare.size else PIXELS}
    return compare("features", sides, setting, conditions, items=batch, unit="image")


def _torch(setting: Setting, pictures: np.ndarray, prepare: Preparation) -> list[Side]:
    import torch

    from benchmarks.torch_inception import TorchInception

    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    model = TorchInception().to(torch_sides.device(), memory_format=torch.channels_last)
    given = torch.from_numpy(pictures)

    def start(network: Any) -> Any:
        x = given.to(torch_sides.device()).permute(0, 3, 1, 2).float() / 255
        x = torch.nn.functional.interpolate(x, prepare.size, mode="bilinear", align_corners=False)
        return network(x.contiguous(memory_format=torch.channels_last) * 2 - 1).cpu()

    return torch_sides.sides(setting, model, start)
