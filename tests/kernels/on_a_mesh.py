"""Run in a process of its own with four CPU devices: kernels on a mesh of stories and heads give the numbers of one device.

Prints one JSON object: {case: [largest difference, whether results lie where inputs do, names of collectives]}.
"""

import json
import re

import jax
import jax.numpy as jnp
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from storyjax.kernels.flash_attention import tpu as flash
from storyjax.kernels.flash_attention.program import BLOCKS
from storyjax.kernels.story_attention import ring, tpu, xla

STORY_FRAMES = P("data", "frame")
STORIES = P("data", None, None, None, "tensor", None)
TOKENS = P("data", None, "tensor", None)
COLLECTIVES = r"all-gather|all-reduce|all-to-all|collective-permute|reduce-scatter"


def gradients(attend):
    """Of a weighted sum of the output, with the output."""

    def total(q, k, v):
        out = attend(q, k, v)
        return (out * jnp.cos(out)).sum(), out

    return jax.grad(total, argnums=(0, 1, 2), has_aux=True)


def compare(mesh, function, arrays, spec, reference=None):
    # Programs compile for longer than they run here: less work on machine code halves that.
    function, reference = (
        jax.jit(f, compiler_options={"xla_backend_optimization_level": 0}) for f in (function, reference or function)
    )
    placed = [jax.device_put(x, NamedSharding(mesh, spec)) for x in arrays]
    with jax.set_mesh(mesh):
        compiled = function.lower(*placed).compile()
    found, expected = compiled(*placed), reference(*arrays)
    pairs = list(zip(jax.tree.leaves(found), jax.tree.leaves(expected)))
    largest = max(float(jnp.abs(jax.device_get(a) - jax.device_get(b)).max()) for a, b in pairs)
    stays = all(a.sharding.is_equivalent_to(NamedSharding(mesh, spec), a.ndim) for a, _ in pairs)
    return largest, stays, sorted(set(re.findall(COLLECTIVES, compiled.as_text())))


def main():
    mesh, framed = (
        jax.make_mesh((2, 2), ("data", axis), axis_types=(AxisType.Auto,) * 2) for axis in ("tensor", "frame")
    )
    keys = jax.random.split(jax.random.key(3), 6)
    story = [jax.random.normal(key, (2, 4, 2, 2, 2, 8)) for key in keys[:3]]
    tokens = [jax.random.normal(key, (2, length, 2, 8)) for key, length in zip(keys[3:], (16, 24, 24))]
    cases = {
        "story_attention xla": (gradients(lambda q, k, v: xla.story_attention(q, k, v, 0.3)), story, STORIES),
        "story_attention xla, rows": (
            gradients(lambda q, k, v: xla.story_attention(q, k, v, 0.3)),
            story,
            P(None, None, "data", "tensor", None, None),
        ),
        "story_attention xla, frames": (
            gradients(lambda q, k, v: xla.story_attention(q, k, v, 0.3)),
            story,
            P(None, "data"),
        ),
        "story_attention tpu": (
            gradients(lambda q, k, v: tpu.story_attention(q, k, v, 0.3, None, True)),
            story,
            STORIES,
        ),
        "flash_attention tpu": (
            gradients(lambda q, k, v: flash.flash_attention(q, k, v, 0.3, BLOCKS, True)),
            tokens,
            TOKENS,
        ),
    }
    found = {name: compare(mesh, *case) for name, case in cases.items()}
    for window in (True, False):
        case = (
            gradients(lambda q, k, v, window=window: ring.ring_attention(q, k, v, 0.3, window)),
            story,
            STORY_FRAMES,
        )
        with_everything = gradients(lambda q, k, v, window=window: gathered(q, k, v, 0.3, window))
        found["ring" if window else "ring, own pixel"] = compare(framed, *case, with_everything)
    print(json.dumps(found))


def gathered(q, k, v, scale, window):
    """Without a ring, for stories that are whole on one device."""
    if window:
        return xla.story_attention(q, k, v, scale)
    weights = jax.nn.softmax(scale * jnp.einsum("bthwnd,buhwnd->bhwntu", q, k), axis=-1)
    return jnp.einsum("bhwntu,buhwnd->bthwnd", weights, v)


if __name__ == "__main__":
    main()
