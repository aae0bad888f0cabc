"""`scheduler_config.json` as diffusers writes it, to and from our schedule and sampler settings.

A file may leave fields out; they then mean the defaults of the class it names, which differ between classes. A setting that
would change the numbers and that we do not have is an error, never dropped in silence.
"""

from collections.abc import Mapping
from typing import Any

from storyjax.config import nearest
from storyjax.diffusion.samplers import Name, Sampler
from storyjax.diffusion.schedule import ScheduleConfig
from storyjax.errors import StoryjaxError

_KINDS = {"linear": "linear", "scaled_linear": "scaled_linear", "squaredcos_cap_v2": "cosine"}
_PREDICTIONS = {"epsilon": "epsilon", "v_prediction": "v"}
_SAMPLERS: dict[Name, str] = {
    "ddim": "DDIMScheduler",
    "euler": "EulerDiscreteScheduler",
    "dpm++": "DPMSolverMultistepScheduler",
}
# (spacing, set_alpha_to_one, clip_sample) meant by a file that does not name them.
_DEFAULTS = {
    "DDIMScheduler": ("leading", True, True),
    "DDPMScheduler": ("leading", True, True),
    "PNDMScheduler": ("leading", False, False),
    "EulerDiscreteScheduler": ("linspace", True, False),
    "DPMSolverMultistepScheduler": ("linspace", True, False),
}
# Values under which a setting changes nothing for us; any other value is refused.
_ONLY = {
    "trained_betas": (None,),
    "thresholding": (False,),
    "algorithm_type": ("dpmsolver++",),
    "solver_order": (2,),
    "solver_type": ("midpoint",),
    "lower_order_final": (True,),
    "euler_at_final": (False,),
    "use_lu_lambdas": (False,),
    "use_exponential_sigmas": (False,),
    "use_beta_sigmas": (False,),
    "use_flow_sigmas": (False,),
    "interpolation_type": ("linear",),
    "timestep_type": ("discrete",),
    "final_sigmas_type": ("zero",),
    "variance_type": (None, "fixed_small", "fixed_small_log", "fixed_large", "fixed_large_log"),
    "sigma_min": (None,),
    "sigma_max": (None,),
}


def from_diffusers(mapping: Mapping[str, Any]) -> ScheduleConfig:
    """The schedule a `scheduler_config.json` describes. Errors: a class or a setting we do not have."""
    name = mapping.get("_class_name", "DDIMScheduler")
    if name not in _DEFAULTS:
        raise StoryjaxError(f"scheduler_config.json: unknown scheduler '{name}'{nearest(name, list(_DEFAULTS))}")
    spacing, to_one, clip = _DEFAULTS[name]
    if mapping.get("clip_sample", clip):
        raise StoryjaxError(
            f"scheduler_config.json: {name} would clip samples to [-1, 1], which latents are not; set clip_sample to false"
        )
    for key, allowed in _ONLY.items():
        if key in mapping and mapping[key] not in allowed:
            raise StoryjaxError(f"scheduler_config.json: expected {key} {allowed[0]!r}, got {mapping[key]!r}")
    return ScheduleConfig(
        steps=mapping.get("num_train_timesteps", 1000),
        beta_start=mapping.get("beta_start", 0.0001),
        beta_end=mapping.get("beta_end", 0.02),
        kind=_translate(_KINDS, "beta_schedule", mapping.get("beta_schedule", "linear")),
        prediction=_translate(_PREDICTIONS, "prediction_type", mapping.get("prediction_type", "epsilon")),
        zero_snr=mapping.get("rescale_betas_zero_snr", False),
        spacing=mapping.get("timestep_spacing", spacing),
        steps_offset=mapping.get("steps_offset", 0),
        set_alpha_to_one=mapping.get("set_alpha_to_one", to_one),
    )


def sampler_from_diffusers(mapping: Mapping[str, Any]) -> Sampler:
    """The sampler a `scheduler_config.json` names; DDIM for the classes without a counterpart here (PNDM, DDPM)."""
    names: dict[Any, Name] = {theirs: ours for ours, theirs in _SAMPLERS.items()}
    name = names.get(mapping.get("_class_name", "DDIMScheduler"), "ddim")
    return Sampler(name, karras=name != "ddim" and bool(mapping.get("use_karras_sigmas", False)))


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
    if sampler.name == "dpm++":
        mapping |= {"algorithm_type": "dpmsolver++", "solver_order": 2, "solver_type": "midpoint"}
    if sampler.name != "ddim":
        mapping |= {"use_karras_sigmas": sampler.karras, "final_sigmas_type": "zero"}
    return mapping


def _translate(names: Mapping[str, Any], key: str, value: str) -> Any:
    if value not in names:
        raise StoryjaxError(f"scheduler_config.json: unknown {key} '{value}'{nearest(str(value), list(names))}")
    return names[value]
