"""What a kernel says of its cost: the compiler plans by it, and `storyjax/nn/flops.py` counts by it."""

from typing import Any

from jax.experimental import pallas as pl


def cost(*, scores: int, depth: int, products: int, needed: int, moved: int) -> dict[str, Any]:
    """Arguments of `pallas_call` for a kernel of attention: what it costs, without masked scores and padding.

    scores: of all queries and heads, each the product of `depth` channels with as many. products: how many the kernel computes of
    that size; needed: how many of them no other kernel has computed before. moved: bytes to and from the device's memory.
    """
    estimate = pl.CostEstimate(flops=2 * products * scores * depth, transcendentals=scores, bytes_accessed=moved)
    return {"cost_estimate": estimate, "metadata": {"needed_products": f"{needed}/{products}"}}
