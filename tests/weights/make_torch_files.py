"""Small files of torch.save for the tests that run without PyTorch.

    python -m tests.weights.make_torch_files     # needs PyTorch; writes tests/weights/files/

`TENSORS` is what they hold, as NumPy arrays: every dtype, views with an offset and strides of their own, one storage for several
tensors, an empty and a scalar tensor, a Parameter.
"""

import sys
import types
from pathlib import Path

import ml_dtypes
import numpy as np

FILES = Path(__file__).parent / "files"

GRID = np.arange(12, dtype=np.float32).reshape(3, 4) / 8
TENSORS = {
    "whole": GRID,
    "tied": GRID,
    "rows": GRID[1:],
    "column": GRID[:, 2],
    "transposed": GRID.T,
    "expanded": np.broadcast_to(GRID[2:, 3], (5,)),
    "half": GRID.astype(np.float16),
    "bfloat": GRID.astype(ml_dtypes.bfloat16),
    "double": GRID.astype(np.float64),
    "numbers": np.array([-3, 2**40]),
    "bytes": np.array([0, 255], np.uint8),
    "flags": np.array([True, False, True]),
    "scalar": np.float32(2.5),
    "empty": np.zeros((0, 4), np.float32),
    "parameter": np.array([7, 8], np.float32),
}


def torch_tensors():
    """`TENSORS` as torch.nn.Module.state_dict gives them: an OrderedDict with attributes, tensors that share storages."""
    import torch

    grid = torch.from_numpy(GRID.copy())
    views = {
        "whole": grid,
        "tied": grid,
        "rows": grid[1:],
        "column": grid[:, 2],
        "transposed": grid.T,
        "expanded": grid[2, 3].expand(5),
        "half": grid.half(),
        "bfloat": grid.bfloat16(),
        "parameter": torch.nn.Parameter(torch.from_numpy(TENSORS["parameter"].copy())),
    }
    module = torch.nn.Module()
    state = module.state_dict()  # with `_metadata`, as every saved model has it
    state.update({name: views[name] if name in views else torch.tensor(value) for name, value in TENSORS.items()})
    return state


def lightning_checkpoint():
    """What PyTorch Lightning saves while training: the weights among optimizer states, and a class as a dictionary's key."""
    import torch

    module = types.ModuleType("pytorch_lightning.callbacks.model_checkpoint")
    module.ModelCheckpoint = type("ModelCheckpoint", (), {"__module__": module.__name__})
    for name in ("pytorch_lightning", "pytorch_lightning.callbacks", module.__name__):
        sys.modules[name] = module
    group = {"lr": 1e-4, "betas": (0.9, 0.999), "params": [0]}
    return {
        "epoch": 3,
        "global_step": 875000,
        "pytorch-lightning_version": "1.4.2",
        "state_dict": torch_tensors(),
        "callbacks": {module.ModelCheckpoint: {"best_model_score": np.float64(0.5), "best_model_path": ""}},
        "optimizer_states": [{"state": {0: {"step": 1, "exp_avg": torch.ones(2)}}, "param_groups": [group]}],
        "lr_schedulers": [],
    }


def main() -> None:
    """Write the files."""
    import torch

    FILES.mkdir(exist_ok=True)
    torch.save(torch_tensors(), FILES / "zip.pt")
    torch.save(torch_tensors(), FILES / "before_zip.pt", _use_new_zipfile_serialization=False)
    torch.save(lightning_checkpoint(), FILES / "lightning.ckpt")


if __name__ == "__main__":
    main()
