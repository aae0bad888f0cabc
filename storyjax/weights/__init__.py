"""PyTorch checkpoints in and out: readers, the rule engine, one strict report, and the networks that are known."""

from storyjax.weights.component import Component, component_of, register
from storyjax.weights.convert import plan, shapes_of, to_native, to_pytorch
from storyjax.weights.load import build, load_params
from storyjax.weights.readers import open_tensors
from storyjax.weights.report import Report
from storyjax.weights.rules import Alias, Dead, Rule, Stray

__all__ = [
    "Alias",
    "Component",
    "Dead",
    "Report",
    "Rule",
    "Stray",
    "build",
    "component_of",
    "load_params",
    "open_tensors",
    "plan",
    "register",
    "shapes_of",
    "to_native",
    "to_pytorch",
]
