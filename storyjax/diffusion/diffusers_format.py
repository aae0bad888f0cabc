"""`scheduler_config.json` as diffusers writes it, to and from our schedule and sampler settings.

A file may leave fields out; they then mean the defaults of the class it names, which differ between classes. A setting of the
noise schedule that would change the numbers and that we do not have is an error. One of the sampler, which is a matter of choice
for any model, is a warning that names the sampler taken instead.
"""

import math
import warnings
from collections.abc import Mapping
from typing import Any, NamedTuple

from storyjax.config import nearest
from storyjax.diffusion.samplers import Name, Sampler
from storyjax.diffusion.schedule import ScheduleConfig
from storyjax.errors import StoryjaxError

_KINDS = {"linear": "linear", "scaled_linear": "scaled_linear", "squaredcos_cap_v2": "cosine"}
_PREDICTIONS = {"epsilon": "epsilon", "v_prediction": "v"}
_SAMPLERS: dict[Name, str] = {
    "ddim": "DDIMScheduler",
    "plms": "PNDMScheduler",
    "euler": "EulerDiscreteScheduler",
    "euler_a": "EulerAncestralDiscreteScheduler",
    "dpm++": "DPMSolverMultistepScheduler",
}


class SamplerTakenWarning(UserWarning):
    """A checkpoint's own sampler is not here; another one was taken."""


class _Class(NamedTuple):
    """A scheduler class of diffusers: our sampler for it, whether that is the very same, and what a file without a field means."""

    sampler: Sampler
    same: bool = True
    to_one: bool = True
    clip: bool = False
    betas: tuple[float, float] = (0.0001, 0.02)


_OWN_BETAS = (0.00085, 0.012)
_CLASSES = {
    "DDIMScheduler": _Class(Sampler(), clip=True),
    "DDPMScheduler": _Class(Sampler(eta=1.0), clip=True),
    "PNDMScheduler": _Class(Sampler("plms"), to_one=False),
    "EulerDiscreteScheduler": _Class(Sampler("euler")),
    "EulerAncestralDiscreteScheduler": _Class(Sampler("euler_a")),
    "DPMSolverMultistepScheduler": _Class(Sampler("dpm++")),
    "DPMSolverSinglestepScheduler": _Class(Sampler("dpm++"), same=False),
    "DPMSolverSDEScheduler": _Class(Sampler("dpm++"), same=False, betas=_OWN_BETAS),
    "DEISMultistepScheduler": _Class(Sampler("dpm++"), same=False),
    "UniPCMultistepScheduler": _Class(Sampler("dpm++"), same=False),
    "LMSDiscreteScheduler": _Class(Sampler("dpm++"), same=False),
    "HeunDiscreteScheduler": _Class(Sampler("dpm++"), same=False, betas=_OWN_BETAS),
    "KDPM2DiscreteScheduler": _Class(Sampler("dpm++"), same=False, betas=_OWN_BETAS),
    "KDPM2AncestralDiscreteScheduler": _Class(Sampler("euler_a"), same=False, betas=_OWN_BETAS),
}
# Values under which a setting of the schedule, or one for pixels, changes nothing for us; any other is refused.
_ONLY = {
    "trained_betas": (None,),
    "thresholding": (False,),
    "timestep_type": ("discrete",),
    "use_flow_sigmas": (False,),
    "lambda_min_clipped": (-math.inf,),
    "variance_type": (None, "fixed_small", "fixed_small_log", "fixed_large", "fixed_large_log"),
    "sigma_min": (None,),
    "sigma_max": (None,),
}
# The same for settings of the sampler, each in the classes that read it; any other is told.
_SAMPLER_ONLY = {
    "PNDMScheduler": {"skip_prk_steps": True},
    "EulerDiscreteScheduler": {
        "interpolation_type": "linear",
        "use_exponential_sigmas": False,
        "use_beta_sigmas": False,
        "final_sigmas_type": "zero",
    },
    "DPMSolverMultistepScheduler": {
        "algorithm_type": "dpmsolver++",
        "solver_order": 2,
        "solver_type": "midpoint",
        "use_lu_lambdas": False,
        "use_exponential_sigmas": False,
        "use_beta_sigmas": False,
        "final_sigmas_type": "zero",
    },
}


def from_diffusers(mapping: Mapping[str, Any]) -> ScheduleConfig:
    """The schedule a `scheduler_config.json` describes. Errors: a class or a setting of the schedule we do not have.

    Where the file does not name its timestep spacing, the result leaves it to the sampler, as changing the scheduler in diffusers
    does.
    """
    name, known = _class(mapping)
    if mapping.get("clip_sample", known.clip):
        raise StoryjaxError(
            f"scheduler_config.json: {name} would clip samples to [-1, 1], which latents are not; set clip_sample to false"
        )
    for key, allowed in _ONLY.items():
        if key in mapping and mapping[key] not in allowed:
            raise StoryjaxError(f"scheduler_config.json: expected {key} {allowed[0]!r}, got {mapping[key]!r}")
    return ScheduleConfig(
        steps=mapping.get("num_train_timesteps", 1000),
        beta_start=mapping.get("beta_start", known.betas[0]),
        beta_end=mapping.get("beta_end", known.betas[1]),
        kind=_translate(_KINDS, "beta_schedule", mapping.get("beta_schedule", "linear")),
        prediction=_translate(_PREDICTIONS, "prediction_type", mapping.get("prediction_type", "epsilon")),
        zero_snr=mapping.get("rescale_betas_zero_snr", False),
        spacing=mapping.get("timestep_spacing", "default"),
        steps_offset=mapping.get("steps_offset", 0),
        set_alpha_to_one=mapping.get("set_alpha_to_one", known.to_one),
    )


def sampler_from_diffusers(mapping: Mapping[str, Any]) -> Sampler:
    """The sampler a `scheduler_config.json` names. One that is not here gives the nearest and a `SamplerTakenWarning`."""
    name, known = _class(mapping)
    sampler = known.sampler
    if sampler.name in ("euler", "dpm++") and mapping.get("use_karras_sigmas"):
        sampler = Sampler(sampler.name, karras=True)
    needed = _SAMPLER_ONLY.get(name, {})
    # A PNDM file that does not speak of its Runge-Kutta start means to have one.
    given = mapping if name != "PNDMScheduler" else {"skip_prk_steps": False} | dict(mapping)
    odd = [f"{key} {given[key]!r}" for key, value in needed.items() if key in given and given[key] != value]
    if not known.same or odd:
        what = f"{name} with {', '.join(odd)}" if odd else name
        warnings.warn(
            f"the checkpoint's own sampler, {what}, is not here; '{sampler.name}' is taken",
            SamplerTakenWarning,
            stacklevel=2,
        )
    return sampler


def to_diffusers(config: ScheduleConfig, sampler: Sampler | None = None) -> dict[str, Any]:
    """The dictionary diffusers would have saved; `from_diffusers` of it gives `config` back. `sampler`: DDIM if None."""
    sampler = sampler or Sampler()
    mapping: dict[str, Any] = {
        "_class_name": _SAMPLERS[sampler.name],
        "num_train_timesteps": config.steps,
        "beta_start": config.beta_start,
        "beta_end": config.beta_end,
        "beta_schedule": {ours: theirs for theirs, ours in _KINDS.items()}[config.kind],
        "prediction_type": {ours: theirs for theirs, ours in _PREDICTIONS.items()}[config.prediction],
        "rescale_betas_zero_snr": config.zero_snr,
        "timestep_spacing": config.spacing,
        "steps_offset": config.steps_offset,
        "set_alpha_to_one": config.set_alpha_to_one,
        "trained_betas": None,
        "clip_sample": False,
    }
    if config.spacing == "default":
        del mapping["timestep_spacing"]
    if sampler.name == "plms":
        mapping |= {"skip_prk_steps": True}
    if sampler.name == "dpm++":
        mapping |= {"algorithm_type": "dpmsolver++", "solver_order": 2, "solver_type": "midpoint"}
    if sampler.name in ("euler", "dpm++"):
        mapping |= {"use_karras_sigmas": sampler.karras, "final_sigmas_type": "zero"}
    return mapping


def _class(mapping: Mapping[str, Any]) -> tuple[str, _Class]:
    name = mapping.get("_class_name", "DDIMScheduler")
    if name not in _CLASSES:
        raise StoryjaxError(f"scheduler_config.json: unknown scheduler '{name}'{nearest(name, list(_CLASSES))}")
    return name, _CLASSES[name]


def _translate(names: Mapping[str, Any], key: str, value: str) -> Any:
    if value not in names:
        raise StoryjaxError(f"scheduler_config.json: unknown {key} '{value}'{nearest(str(value), list(names))}")
    return names[value]
