"""A story of 100 frames on one device and on all that this process has: prints how far apart the latents are, as JSON."""

import json
import tempfile
from pathlib import Path

import jax
import numpy as np
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from storyjax.parallel.mesh import make_mesh
from storyjax.systems.contextual_story.long_story import LongStory
from storyjax.systems.contextual_story.pipeline import ContextualStoryPipeline
from tests import tiny

SENTENCES = [tiny.SENTENCES[n % 3] for n in range(100)]
# Each part of a chain hands its rounding on to the next: after fifty parts of this untrained toy it has grown to 1e-3.
WAYS = {"windows": (100, LongStory(windows_at_once=3)), "chain": (21, LongStory(method="chain"))}


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, tiny.quick_compiles():
        alone = tiny.pipeline(tiny.tokenizer_folder(Path(folder) / "tokenizer"))
        mesh = make_mesh("data=2,fsdp=2,tensor=2", jax.devices())
        params = jax.device_put(alone.params, NamedSharding(mesh, P()))
        shared = ContextualStoryPipeline(alone.config, params, alone.tokenizer, alone.motion, mesh)
        apart = {
            name: distance(
                *(np.asarray(p(SENTENCES[:n], seed=3, long=long, output_type="latent").images) for p in (alone, shared))
            )
            for name, (n, long) in WAYS.items()
        }
        short = [np.asarray(p([SENTENCES[:3]] * 2, seed=3, output_type="latent").images) for p in (alone, shared)]
        print(json.dumps({"devices": mesh.size, **apart, "three frames": distance(*short)}))


def distance(one: np.ndarray, other: np.ndarray) -> float:
    """Largest difference over the largest value."""
    return float(np.abs(one - other).max() / np.abs(one).max())


if __name__ == "__main__":
    main()
