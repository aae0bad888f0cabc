"""PyTorch checkpoints in and out: readers, the rule engine and one strict report."""

from storyjax.weights.convert import plan, shapes_of, to_native, to_pytorch
from storyjax.weights.readers import open_tensors
from storyjax.weights.report import Report
from storyjax.weights.rules import Dead, Rule

__all__ = ["Dead", "Report", "Rule", "open_tensors", "plan", "shapes_of", "to_native", "to_pytorch"]
