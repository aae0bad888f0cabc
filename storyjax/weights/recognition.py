"""Recognition networks as their owners publish them: the tables of names, and reading a file into a network ready to run.

Files of torch.save with a state_dict, and one TorchScript program of which only the tensors are read. Numbers of batches seen are
never looked at; classifiers that no feature depends on are dropped by name.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from flax import nnx

from storyjax.nn.build import Params, abstract
from storyjax.weights.convert import shapes_of, to_native
from storyjax.weights.readers import open_tensors
from storyjax.weights.rules import Alias, AnyRule, Rule, Stray, conv2d, join, linear

_STATISTICS = {"weight": "scale", "bias": "bias", "running_mean": "mean", "running_var": "variance"}
COUNTS: list[AnyRule] = [Stray(r"{at:.*}.num_batches_tracked")]


def batch_norm(source: str, target: str, rule: type[Rule] | type[Alias] = Rule) -> list[AnyRule]:
    """Scale, bias and statistics of a BatchNorm."""
    return [rule(f"{source}.{theirs}", f"{target}.{ours}") for theirs, ours in _STATISTICS.items()]


def conv_norm(
    conv: str, norm: str, target: str, transform: str, rule: type[Rule] | type[Alias] = Rule
) -> list[AnyRule]:
    """A convolution without bias and the BatchNorm behind it."""
    kernel = rule(f"{conv}.weight", f"{target}.conv.kernel", transform)
    return [kernel, *batch_norm(norm, f"{target}.norm", rule)]


def _inception(source: str, target: str) -> list[AnyRule]:
    return conv_norm(f"{source}.conv", f"{source}.bn", target, "conv2d")


# pt_inception-2015-12-05 and inception_v3_google: the names of torchvision.
INCEPTION: list[AnyRule] = join(
    _inception(r"{unit:Conv2d_\w+}", "stem.{unit}"),
    _inception(r"{block:Mixed_\w+}.{unit:branch\w+}", "blocks.{block}.units.{unit}"),
    _inception(r"AuxLogits.{unit:conv\d}", "auxiliary.{unit}"),
    linear("AuxLogits.fc", "auxiliary.fc"),
    linear("fc", "fc"),
    COUNTS,
)


def _r2plus1d(layer: int) -> list[AnyRule]:
    """torchvision counts layers from 1, a list from 0."""
    source, target = f"layer{layer}.{{i}}", f"layers.{layer - 1}.{{i}}"
    return join(
        conv_norm(f"{source}.conv{{k}}.0.0", f"{source}.conv{{k}}.0.1", f"{target}.conv{{k}}.space", "conv3d"),
        conv_norm(f"{source}.conv{{k}}.0.3", f"{source}.conv{{k}}.1", f"{target}.conv{{k}}.time", "conv3d"),
        conv_norm(f"{source}.downsample.0", f"{source}.downsample.1", f"{target}.shortcut", "conv3d"),
    )


R2PLUS1D: list[AnyRule] = join(
    conv_norm("stem.0", "stem.1", "stem_space", "conv3d"),
    conv_norm("stem.3", "stem.4", "stem_time", "conv3d"),
    *(_r2plus1d(layer) for layer in range(1, 5)),
    linear("fc", "fc"),
    COUNTS,
)

# Where the units of a mixed block stand in the network of StyleGAN-V's file, and in pytorch-i3d's.
_UNITS = {
    "b0": ("branch_0", "b0"),
    "b1a": ("branch_1.0", "b1a"),
    "b1b": ("branch_1.1", "b1b"),
    "b2a": ("branch_2.0", "b2a"),
    "b2b": ("branch_2.1", "b2b"),
    "b3b": ("branch_3.1", "b3b"),
}


def _i3d_torchscript() -> list[AnyRule]:
    table = conv_norm(r"{at:conv3d_[12]\w+}.conv3d", r"{at:conv3d_[12]\w+}.batch3d", "{at}", "conv3d")
    for ours, (theirs, _) in _UNITS.items():
        at = rf"{{block:mixed_\w+}}.{theirs}"
        table += conv_norm(f"{at}.conv3d", f"{at}.batch3d", f"blocks.{{block}}.{ours}", "conv3d")
    return join(table, linear("conv3d_0c_1x1.conv3d", "logits", transform="conv3d"))


def _i3d_pytorch() -> list[AnyRule]:
    """The same network with capital letters: read, never written."""
    table: list[AnyRule] = []
    for unit in ("1a_7x7", "2b_1x1", "2c_3x3"):
        at = f"Conv3d_{unit}"
        table += conv_norm(f"{at}.conv3d", f"{at}.bn", f"conv3d_{unit}", "conv3d", Alias)
    for ours, (_, theirs) in _UNITS.items():
        at = rf"Mixed_{{block:\w+}}.{theirs}"
        table += conv_norm(f"{at}.conv3d", f"{at}.bn", f"blocks.mixed_{{block}}.{ours}", "conv3d", Alias)
    kernel = Alias("logits.conv3d.weight", "logits.kernel", "conv3d")
    return join(table, [kernel, Alias("logits.conv3d.bias", "logits.bias")])


I3D: list[AnyRule] = join(_i3d_torchscript(), _i3d_pytorch(), COUNTS)

# The trunk is one published file, the heads another: `read_network` takes both.
LPIPS: list[AnyRule] = join(
    conv2d("features.{i}", "trunk.layer{i}"),
    conv2d(r"features.{i}.{part:squeeze|expand1x1|expand3x3}", "trunk.layer{i}.{part}"),
    [Rule("lin{i}.model.1.weight", "heads.{i}.kernel", "conv2d"), Stray("classifier.{at:.*}")],
)


def read_network(
    files: Sequence[Path], make: Callable[[Any], nnx.Module], rules: Sequence[AnyRule]
) -> tuple[nnx.GraphDef, Params]:
    """The network that `make` describes with the tensors of these files, float32.

    Every tensor must have its place, and every place one. Errors: a file that is damaged or wants to execute something; all
    missing, unused and mis-shaped tensors in one listing.
    """
    tensors: dict[str, np.ndarray] = {}
    for file in files:
        tensors |= dict(open_tensors(file))
    return network_of(tensors, make, rules, source=" and ".join(f"'{file}'" for file in files))


def network_of(
    tensors: Mapping[str, np.ndarray],
    make: Callable[[Any], nnx.Module],
    rules: Sequence[AnyRule],
    *,
    source: str = "the checkpoint",
) -> tuple[nnx.GraphDef, Params]:
    """The same from tensors by their published names."""
    graphdef, shapes = abstract(make)
    params, _ = to_native(tensors, rules, shapes_of(shapes), source=source)
    return graphdef, params
