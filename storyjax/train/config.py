"""The settings of the training loop. Systems put one `TrainConfig` into their own configuration."""

import dataclasses
from typing import Literal

from storyjax.errors import StoryjaxError
from storyjax.nn.remat import Remat

# Fields that may differ when a work directory is resumed: they do not change what an optimizer step computes, except
# that `steps` is also the length of a cosine or linear schedule.
FREE_FIELDS = frozenset({"steps", "log_every", "save_every", "sample_every", "evaluate_every", "keep_last"})


def _require(holds: bool, name: str, value: object, expected: str) -> None:
    if not holds:
        raise StoryjaxError(f"training: {name} must be {expected}, got {value!r}")


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
    """AdamW (Loshchilov & Hutter 2019), or Muon for matrices, behind a clip of the global gradient norm."""

    name: Literal["adamw", "muon"] = "adamw"
    """`muon` (Jordan 2024; scaled as in Liu et al. 2025, so AdamW's learning rates serve): weights with two or more axes are
    updated by orthogonalised momentum, all others and the embedding tables by AdamW."""
    learning_rate: float = 1e-4
    """Peak learning rate."""
    b1: float = 0.9
    b2: float = 0.999
    eps: float = 1e-8
    weight_decay: float = 0.01
    """Decoupled: multiplied by the learning rate."""
    decay_mask: Literal["all", "matrices"] = "all"
    """`all`: every trainable leaf (as the papers do); `matrices`: only leaves with two or more axes."""
    warmup_steps: int = 0
    """Step n of the first `warmup_steps` uses the fraction n / warmup_steps of the peak."""
    schedule: Literal["constant", "cosine", "linear"] = "constant"
    """After the warm-up, down to `final_fraction` of the peak at the last step."""
    final_fraction: float = 0.0
    clip_norm: float | None = 1.0
    """Gradients are scaled down to this global norm; None: never."""

    def __post_init__(self) -> None:
        _require(self.learning_rate > 0, "optimizer.learning_rate", self.learning_rate, "positive")
        _require(self.warmup_steps >= 0, "optimizer.warmup_steps", self.warmup_steps, "0 or more")
        _require(0 <= self.final_fraction <= 1, "optimizer.final_fraction", self.final_fraction, "between 0 and 1")
        _require(
            self.clip_norm is None or self.clip_norm > 0, "optimizer.clip_norm", self.clip_norm, "positive or None"
        )


@dataclasses.dataclass(frozen=True)
class EmaConfig:
    """Exponential moving average of the trainable parameters."""

    decay: float = 0.9999
    """The largest decay; 0 makes the average a plain copy."""
    warmup: Literal["official", "none"] = "official"
    """`official`: decay min((1+s)/(10+s), decay) with s = step-1, and 0 at the first step; `none`: always `decay`."""

    def __post_init__(self) -> None:
        _require(0 <= self.decay < 1, "ema.decay", self.decay, "in [0, 1)")


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """How long, how large, how often; counts are optimizer steps."""

    steps: int = 10_000
    batch_size: int = 8
    """Stories of one optimizer step, all micro-batches together."""
    accumulation: int = 1
    """Micro-batches of one optimizer step: the batch is cut into that many equal parts, gradients are averaged exactly."""
    seed: int = 0
    """Of the parameters and of the noise in the loss; the order of the data has its own."""
    compute_dtype: Literal["float32", "bfloat16"] = "float32"
    """Parameters are cast to this for the loss; masters, gradients, optimizer and averages stay float32."""
    remat: Remat = "none"
    """What of the activations is kept for the backward pass: all (none), products, or only the input of blocks (storyjax.nn.remat).
    Read by the systems when they build the network, not by the loop."""
    log_every: int = 50
    save_every: int = 1000
    sample_every: int = 0
    """0: never. The last step also samples, evaluates and saves (if ever)."""
    evaluate_every: int = 0
    """0: never."""
    keep_last: int = 2
    """Checkpoints kept."""
    optimizer: OptimizerConfig = OptimizerConfig()
    ema: EmaConfig = EmaConfig()

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "accumulation", "log_every", "save_every", "keep_last"):
            _require(getattr(self, name) >= 1, name, getattr(self, name), "1 or more")
        for name in ("sample_every", "evaluate_every"):
            _require(getattr(self, name) >= 0, name, getattr(self, name), "0 (never) or more")
        if self.batch_size % self.accumulation:
            raise StoryjaxError(
                f"batch_size {self.batch_size} is not divisible by accumulation {self.accumulation}; "
                "batch_size counts the stories of all micro-batches together"
            )
