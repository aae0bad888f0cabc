"""The metrics by name. A module is imported only when one of its metrics is asked for."""

import importlib
import inspect
import json
from collections.abc import Mapping, Sequence
from typing import Any

from storyjax.config import nearest
from storyjax.errors import StoryjaxError
from storyjax.evals.metric import StoryMetric

HELP = "help"  # what lists them
# Name -> "module:class"; each class is made by its `open(**options)`, which finds its published weights.
METRICS = {
    "recogniser": "storyjax.evals.metrics.recogniser_metric:RecogniserMetric",
    "fid": "storyjax.evals.metrics.fid:FID",
    "fid_torchvision": "storyjax.evals.metrics.fid:FIDTorchvision",
    "inception_score": "storyjax.evals.metrics.fid:InceptionScore",
    "fsd": "storyjax.evals.metrics.story_distance:FSD",
    "fsd_corrected": "storyjax.evals.metrics.story_distance:FSDCorrected",
    "fvd": "storyjax.evals.metrics.story_distance:FVD",
    "ssim": "storyjax.evals.metrics.frame_distance:SSIM",
    "lpips": "storyjax.evals.metrics.frame_distance:LPIPSMetric",
    "char_f1": "storyjax.evals.metrics.character_metrics:CharF1",
    "char_f1_macro": "storyjax.evals.metrics.character_metrics:CharF1Macro",
    "frm_acc": "storyjax.evals.metrics.character_metrics:FrmAcc",
    "clip_t": "storyjax.evals.metrics.clip_scores:ClipT",
    "clip_i": "storyjax.evals.metrics.clip_scores:ClipI",
    "r_precision": "storyjax.evals.metrics.r_precision:RPrecision",
    "pick_score": "storyjax.evals.metrics.clip_scores:PickScore",
    "dreamsim": "storyjax.evals.metrics.dreamsim:DreamSim",
    "accs": "storyjax.evals.metrics.character_consistency:ACCS",
    "afid": "storyjax.evals.metrics.character_consistency:AFID",
}
NEEDS = {
    "real": "the data's real frames",
    "characters": "who is in each frame",
    "boxes": "where someone is (boxes.json, or a detector)",
    "truth": "the truth of every frame",
}


def metric_class(name: str) -> type[StoryMetric]:
    """Error: no metric of that name (naming the nearest)."""
    if name not in METRICS:
        raise StoryjaxError(
            f"there is no metric '{name}'{nearest(name, sorted(METRICS))} (--metrics {HELP} lists them)"
        )
    module, _, attribute = METRICS[name].partition(":")
    return getattr(importlib.import_module(module), attribute)


def metric_options(name: str) -> dict[str, bool]:
    """What a metric can be opened with, and whether it must be said."""
    opened: Any = metric_class(name).open  # type: ignore[attr-defined]  # every registered class has it
    parameters = inspect.signature(opened).parameters.values()
    return {each.name: each.default is each.empty for each in parameters if each.kind != each.VAR_KEYWORD}


def open_metric(name: str, options: Mapping[str, Any] | None = None) -> StoryMetric:
    """The metric with its weights. Errors: no such metric or option, one that must be said, weights not on this machine."""
    found, known = metric_class(name), metric_options(name)
    for option in options or {}:
        if option not in known:
            told = nearest(option, list(known)) if known else "; it has none"
            raise StoryjaxError(f"the metric '{name}' has no option '{option}'{told}")
    missing = [option for option, must in known.items() if must and option not in (options or {})]
    if missing:
        raise StoryjaxError(f"the metric '{name}' needs '{missing[0]}' to be said: --set {name}.{missing[0]}=...")
    return found.open(**(options or {}))  # type: ignore[attr-defined]


def open_metrics(
    names: Sequence[str], options: Mapping[str, Mapping[str, Any]] | None = None
) -> dict[str, StoryMetric]:
    """Several metrics by name; no names: the recogniser alone. Errors: as `open_metric`; options of a metric not asked for."""
    wanted = list(dict.fromkeys(names)) or ["recogniser"]
    for metric in options or {}:
        if metric not in wanted:
            raise StoryjaxError(f"the metric '{metric}' has options, but is not asked for{nearest(metric, wanted)}")
    for name in wanted:
        metric_class(name)  # a wrong name is told before weights are read
    return {name: open_metric(name, (options or {}).get(name)) for name in wanted}


def parse_options(changes: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Options by metric from texts such as "char_f1.classifier=runs/classifier/model". Error: a text of another form."""
    options: dict[str, dict[str, Any]] = {}
    for change in changes:
        path, equals, value = change.partition("=")
        metric, dot, option = path.strip().partition(".")
        if not equals or not dot:
            raise StoryjaxError(f"expected an option of a metric as metric.option=value, got '{change}'")
        options.setdefault(metric, {})[option.replace("-", "_")] = _value(value.strip())
    return options


def listing() -> str:
    """All metrics with what each measures and needs, for people."""
    lines = []
    for name in sorted(METRICS):
        found = metric_class(name)
        needs = ", ".join(NEEDS[need] for need in sorted(found.needs)) or "generated frames and sentences only"
        lines.append(f"{name}: {found.title}, {found.better} is better")
        if told := (inspect.getdoc(found) or "").partition("\n")[0]:
            lines.append(f"    {told}")
        lines.append(f"    needs {needs}")
        if known := metric_options(name):
            told = ", ".join(f"{name}.{option}{' (must be said)' * must}" for option, must in known.items())
            lines.append(f"    options: {told}")
    return "\n".join(lines)


def _value(text: str) -> Any:
    """A number, a truth value or a list by its JSON form; everything else is text."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text
