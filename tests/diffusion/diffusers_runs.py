"""Whole runs of diffusers' schedulers around a network that is one line of arithmetic, and their stored results.

`python -m tests.diffusion.diffusers_runs` writes the stored results anew (needs PyTorch and diffusers).
"""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import numpy as np

FILE = Path(__file__).parents[1] / "goldens" / "schedulers" / "diffusers.npz"
SHAPE = (2, 3, 2)

_SD = {
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "clip_sample": False,
    "num_train_timesteps": 1000,
    "set_alpha_to_one": False,
    "steps_offset": 1,
    "trained_betas": None,
}
# scheduler/scheduler_config.json as released.
SD15 = {"_class_name": "PNDMScheduler", "skip_prk_steps": True, **_SD}
SD21_BASE = SD15 | {"prediction_type": "epsilon"}
SD21_V = {"_class_name": "DDIMScheduler", "prediction_type": "v_prediction", "skip_prk_steps": True, **_SD}
SDXL = {
    "_class_name": "EulerDiscreteScheduler",
    "interpolation_type": "linear",
    "prediction_type": "epsilon",
    "sample_max_value": 1.0,
    "skip_prk_steps": True,
    "timestep_spacing": "leading",
    "use_karras_sigmas": False,
    **_SD,
}
RELEASED = {"sd15": SD15, "sd21_base": SD21_BASE, "sd21_v": SD21_V, "sdxl": SDXL}

DDIM, PNDM, EULER, EULER_A, DPM = (
    f"{name}Scheduler" for name in ("DDIM", "PNDM", "EulerDiscrete", "EulerAncestralDiscrete", "DPMSolverMultistep")
)


@dataclasses.dataclass(frozen=True)
class Run:
    """A released file, the changes to it, the number of steps, and DDIM's eta."""

    file: str
    steps: int
    change: tuple[tuple[str, Any], ...] = ()
    eta: float = 0.0

    @property
    def mapping(self) -> dict[str, Any]:
        """The scheduler_config.json."""
        return RELEASED[self.file] | dict(self.change)


def _run(file: str, steps: int, name: str | None = None, *, eta: float = 0.0, **change: Any) -> Run:
    return Run(file, steps, tuple(({"_class_name": name} if name else {}).items()) + tuple(change.items()), eta)


_ZERO_SNR = {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
RUNS = {
    # The checkpoints' own.
    "sd15": _run("sd15", 12),
    "sd15_one_step": _run("sd15", 1),
    "sd15_two_steps": _run("sd15", 2),
    "sd21_v": _run("sd21_v", 12),
    "sdxl": _run("sdxl", 12),
    # Another sampler on a released file takes that sampler's own spacing.
    "sd15_ddim": _run("sd15", 7, DDIM),
    "sd15_euler": _run("sd15", 7, EULER),
    "sd15_euler_a": _run("sd15", 7, EULER_A),
    "sd15_dpm": _run("sd15", 7, DPM),
    "sd21_v_euler": _run("sd21_v", 7, EULER),
    "sd21_v_euler_a": _run("sd21_v", 7, EULER_A),
    "sd21_v_dpm": _run("sd21_v", 7, DPM),
    "sd21_v_plms": _run("sd21_v", 7, PNDM),
    "sdxl_dpm": _run("sdxl", 7, DPM),
    # Spacings.
    "ddim_trailing": _run("sd15", 8, DDIM, timestep_spacing="trailing"),
    "ddim_linspace": _run("sd15", 8, DDIM, timestep_spacing="linspace"),
    "ddim_to_one": _run("sd21_v", 8, DDIM, set_alpha_to_one=True),
    "plms_trailing": _run("sd15", 8, timestep_spacing="trailing"),
    "euler_trailing": _run("sdxl", 8, timestep_spacing="trailing"),
    "euler_a_trailing": _run("sdxl", 8, EULER_A, timestep_spacing="trailing"),
    "euler_a_leading": _run("sdxl", 8, EULER_A),
    "dpm_trailing": _run("sd15", 8, DPM, timestep_spacing="trailing"),
    "dpm_leading": _run("sd21_v", 8, DPM, timestep_spacing="leading"),
    # Karras levels, fresh noise, zero terminal SNR, other betas.
    "euler_karras": _run("sdxl", 8, use_karras_sigmas=True),
    "euler_karras_linspace": _run("sd21_v", 8, EULER, use_karras_sigmas=True),
    "dpm_karras": _run("sd15", 8, DPM, use_karras_sigmas=True),
    "dpm_karras_v": _run("sd21_v", 8, DPM, use_karras_sigmas=True),
    "ddim_eta": _run("sd15", 8, DDIM, eta=1.0),
    "ddim_eta_v": _run("sd21_v", 8, DDIM, eta=1.0),
    "ddim_zero_snr": _run("sd21_v", 8, DDIM, **_ZERO_SNR),
    "euler_zero_snr": _run("sd21_v", 8, EULER, **_ZERO_SNR),
    "euler_a_zero_snr": _run("sd21_v", 8, EULER_A, **_ZERO_SNR),
    "dpm_zero_snr": _run("sd21_v", 8, DPM, **_ZERO_SNR),
    "dpm_cosine": _run("sd15", 8, DPM, beta_schedule="squaredcos_cap_v2"),
}


def network(xp: Any, latents: Any, timestep: Any) -> Any:
    """A bounded, nonlinear answer that depends on the timestep; `xp` is numpy or jax.numpy."""
    return 0.6 * xp.tanh(latents) + 0.3 * xp.cos(1.7 * latents + timestep / 150)


def start() -> np.ndarray:
    """Noise of unit variance."""
    return np.random.default_rng(0).standard_normal(SHAPE).astype(np.float32)


def key() -> jax.Array:
    """What the fresh noise of step i is drawn from, folded with i."""
    return jax.random.key(7)


def by_diffusers(run: Run) -> np.ndarray:
    """What the network is shown at each call, then the result: (calls + 1, *SHAPE)."""
    import diffusers
    import torch

    mapping = run.mapping
    scheduler = getattr(diffusers, mapping["_class_name"]).from_config(
        {name: value for name, value in mapping.items() if name != "_class_name"}
    )
    scheduler.set_timesteps(run.steps)
    path, x = [], torch.from_numpy(start()) * scheduler.init_noise_sigma
    for i, timestep in enumerate(scheduler.timesteps):
        shown = scheduler.scale_model_input(x, timestep)
        path.append(shown.numpy())
        output = torch.from_numpy(network(np, shown.numpy(), np.float32(timestep.item())))
        fresh = torch.from_numpy(np.array(jax.random.normal(jax.random.fold_in(key(), i), SHAPE)))
        x = _step(scheduler, i, output, x, fresh, run.eta)
    return np.stack([*path, x.numpy()]).astype(np.float32)


def _step(scheduler: Any, index: int, output: Any, x: Any, fresh: Any, eta: float) -> Any:
    from diffusers.schedulers import scheduling_euler_ancestral_discrete as ancestral

    name, timestep = type(scheduler).__name__, scheduler.timesteps[index]
    if name == EULER_A:
        before, ancestral.randn_tensor = ancestral.randn_tensor, lambda *_, **__: fresh
        try:
            return scheduler.step(output, timestep, x).prev_sample
        finally:
            ancestral.randn_tensor = before
    if name == DDIM:
        # It steps to t - T//n, which is not always its own next timestep; here it is made to be that.
        last = index + 1 == len(scheduler.timesteps)
        gap = 1000 if last else int(timestep - scheduler.timesteps[index + 1])
        scheduler.num_inference_steps = 1
        scheduler.register_to_config(num_train_timesteps=gap)
        return scheduler.step(output, timestep, x, eta=eta, variance_noise=fresh).prev_sample
    return scheduler.step(output, timestep, x).prev_sample


if __name__ == "__main__":
    FILE.parent.mkdir(exist_ok=True)
    np.savez_compressed(FILE, **{name: by_diffusers(run) for name, run in RUNS.items()})
    print(f"{FILE}: {FILE.stat().st_size} bytes")
