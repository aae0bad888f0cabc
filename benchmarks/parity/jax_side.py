"""storyjax's side, a process of its own: the saved checkpoint loaded, run on the same inputs, held against what is expected.

    python -m benchmarks.parity.jax_side NAME FOLDER float32|bfloat16 [--full]

Reads what `torch_side` left in FOLDER and leaves `jax_<dtype>.json` there. No PyTorch is imported.
"""

import argparse
import itertools
import json
import resource
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.parity.cases import BY_NAME, Arrays, Case
from storyjax.nn.build import abstract, bind, flatten
from storyjax.story.manifest import device_here, versions_here
from storyjax.weights import open_tensors
from storyjax.weights.component import component_of
from storyjax.weights.load import load_params

Outputs = dict[str, jax.Array]


def ours(value: np.ndarray) -> np.ndarray:
    """PyTorch's layouts to channels last: pictures (N, C, H, W), stories (B, C, F, H, W); others as they are."""
    return np.moveaxis(value, 1, -1) if value.ndim in (4, 5) else value


def run(case: Case, model: Any, given: dict[str, jax.Array], dtype: Any) -> Outputs:
    """The counterpart of `torch_side.run`; traced. Pictures, latents and texts come in `dtype`, as in the pipelines."""
    whole = {"timestep", "time_ids", "motion"}  # numbers that are measured, not images: they stay as they are
    cast = {k: v.astype(dtype) if v.dtype == jnp.float32 and k not in whole else v for k, v in given.items()}
    if case.kind == "unet":
        added = {k: cast[k] for k in ("pooled_text", "time_ids") if k in cast}
        return {"sample": model(cast["sample"], cast["timestep"], cast["context"], **added)}
    if case.kind == "vae":
        mean, deviation = model.encode(cast["image"])
        return {"mean": mean, "deviation": deviation, "decoded": model.decode(cast["latents"])}
    if case.kind == "clip_text":
        last, pooled = model.encode(cast["tokens"])
        return {"last": last, "penultimate": model(cast["tokens"], skip=1, norm=False), "pooled": pooled}
    if case.kind == "clip_vision":
        return {"penultimate": model(cast["image"], skip=1), "embedding": model.embed(cast["image"])}
    return _run_story(model, cast)


def _run_story(model: Any, given: dict[str, jax.Array]) -> Outputs:
    latents, timestep, motion = given["latents"], given["timestep"], given["motion"]
    first = given["first_frame"][:, 0] if "first_frame" in given else None
    context = model.contextualize(given["text"][None])
    trained = model(latents, timestep, context, jnp.trunc(motion), first)
    twice = None if first is None else jnp.concatenate([first, first])
    both = jnp.concatenate([given["null_text"][None], context])
    guided = model(jnp.concatenate([latents, latents]), timestep, both, motion, twice)
    return {"training": trained, "guided": guided}


def error(got: np.ndarray, expected: np.ndarray) -> float:
    """The norm of the difference over the norm of what is expected."""
    if got.shape != expected.shape:
        raise ValueError(f"expected shape {expected.shape}, got {got.shape}")
    expected = expected.astype(np.float64)
    return float(np.linalg.norm(got.astype(np.float64) - expected) / np.linalg.norm(expected))


def peak() -> int:
    """The most memory this process has had so far, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main(case: Case, folder: Path, dtype: str, full: bool) -> None:
    kind = jnp.dtype(dtype)
    given: Arrays = {name: ours(value) for name, value in case.inputs(full).items()}
    before, clock = peak(), [time.perf_counter()]
    original = json.loads((folder / "config.json").read_text())
    component = component_of(original)
    config, tensors = component.read_config(original), open_tensors(folder)
    params, report = load_params(component, config, tensors, dtype=kind, source=case.title)
    loaded = peak()
    clock.append(time.perf_counter())
    graphdef, _ = abstract(lambda rngs: component.make(config, rngs))

    def forward(params: Any, given: Any) -> Outputs:
        return run(case, bind(graphdef, params), given, kind)

    with jax.default_matmul_precision("highest"):  # float32 on every device, also where it is not the default
        compiled = jax.jit(forward).lower(params, given).compile()
    clock.append(time.perf_counter())
    outputs = jax.block_until_ready(compiled(params, given))
    clock.append(time.perf_counter())
    with np.load(folder / "expected.npz") as expected:
        errors = {
            name: error(np.asarray(value.astype(jnp.float32)), ours(expected[f"{dtype}.{name}"]))
            for name, value in outputs.items()
        }
    load, compilation, run_seconds = (float(late - early) for early, late in itertools.pairwise(clock))
    told = {
        "errors": errors,
        "tensors": len(report.placed),
        "dead": len(report.dead),
        "native_parameters": sum(leaf.size for leaf in flatten(params).values()),
        "load_seconds": load,
        "compile_seconds": compilation,
        "run_seconds": run_seconds,
        "bytes_before": before,  # of Python, JAX and the inputs, before anything is read
        "bytes_loaded": loaded,
        "peak_bytes": peak(),
        "device": device_here(),
        "versions": versions_here(),
    }
    (folder / f"jax_{dtype}.json").write_text(json.dumps(told))


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("name", choices=BY_NAME)
    parser.add_argument("folder", type=Path)
    parser.add_argument("dtype", choices=["float32", "bfloat16"])
    parser.add_argument("--full", action="store_true")
    options = parser.parse_args()
    main(BY_NAME[options.name], options.folder, options.dtype, options.full)
