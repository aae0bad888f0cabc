"""Whole runs against what diffusers drew with the same toy models, stored by `diffusers_draws`."""

import numpy as np
import pytest

from tests import tiny, tiny_sd
from tests.systems.stable_diffusion import diffusers_draws
from tests.systems.stable_diffusion.diffusers_draws import DRAWS


@pytest.fixture(scope="module")
def stored():
    with np.load(diffusers_draws.FILE) as archive:
        return {kind: archive[kind] for kind in archive.files}


def relative(got, expected) -> float:
    return float(np.linalg.norm(got - expected) / np.linalg.norm(expected))


@pytest.mark.parametrize("kind", DRAWS)
def test_each_family_draws_what_diffusers_drew(kind, stored, tokenizer):
    pipeline = tiny_sd.pipeline(kind, tokenizer)
    with tiny.quick_compiles():
        output = pipeline(diffusers_draws.PROMPTS, latents=diffusers_draws.start(), output_type="latent", **DRAWS[kind])
    assert relative(np.stack(output.images), stored[kind]) < 1e-4
