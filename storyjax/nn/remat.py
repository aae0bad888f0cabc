"""What a block's backward pass finds of its forward pass, by name; the rest is computed a second time.

    none        everything is kept: fastest, and the most memory
    products    inputs, and what weights were multiplied with: convolutions and matrix products without batch axes. Norms,
                activations and attention are computed again, which is little work
    blocks      inputs alone: about a third more work, the least memory

Chen et al. 2016, "Training deep nets with sublinear memory cost". Values and gradients are the same up to rounding.
"""

from collections.abc import Callable
from typing import Any, Literal

import jax

Remat = Literal["none", "products", "blocks"]


def with_remat(name: Remat, function: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
    """`function` whose backward pass finds what `name` says."""
    if name == "none":
        return function
    return jax.checkpoint(function, policy=_products if name == "products" else None)


def _products(primitive: Any, *avals: Any, **params: Any) -> bool:
    if primitive.name == "conv_general_dilated":
        return True
    return jax.checkpoint_policies.dots_with_no_batch_dims_saveable(primitive, *avals, **params)
