"""What the character classifier is trained on: frames, half of them mirrored, and a cross-entropy for each character and head.

As StoryViz's train_classifier.py, with one difference: its batch norms go on learning their statistics, here they stay those of
ImageNet. Then a frame's loss does not depend on the others of its batch, and any number of devices trains the same network.
"""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from storyjax.evals.networks.character_classifier import INPUTS
from storyjax.nn.build import Params, bind

FROZEN = (r"\.norm\.(mean|variance)$",)
AUXILIARY_WEIGHT = 0.4  # of the second head, as in Szegedy et al. 2016
DROPOUT = 0.5


def classifier_loss(
    graphdef: nnx.GraphDef, shown: str, params: Params, batch: dict[str, Any], key: jax.Array
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """loss = BCE(logits) + 0.4 BCE(auxiliary logits), in nats, mean over frames and characters.

    shown: the input by its name. batch: `images` (B, F, H, W, 3) uint8, `characters` (B, F, K) multi-hot. Metrics:
    `frames_right`, the share of frames whose whole set is right, and `characters_loss`.
    """
    flip_key, drop_key = jax.random.split(key)
    images = jnp.reshape(batch["images"], (-1, *batch["images"].shape[2:]))
    truth = jnp.reshape(batch["characters"], (len(images), -1)).astype(jnp.float32)
    mirrored = jax.random.bernoulli(flip_key, shape=(len(images), 1, 1, 1))
    images = jnp.where(mirrored, images[:, :, ::-1], images)
    dtype = jax.tree.leaves(params)[0].dtype
    network = bind(graphdef, params)
    last, middle = network.maps(INPUTS[shown](images).astype(dtype))
    features = last.mean(axis=(1, 2))
    kept = jax.random.bernoulli(drop_key, 1 - DROPOUT, features.shape)
    scores = network.logits(jnp.where(kept, features / (1 - DROPOUT), 0)).astype(jnp.float32)
    term = optax.sigmoid_binary_cross_entropy(scores, truth).mean()
    loss = term
    if network.auxiliary is not None:
        second = network.auxiliary(middle).astype(jnp.float32)
        loss += AUXILIARY_WEIGHT * optax.sigmoid_binary_cross_entropy(second, truth).mean()
    right = ((scores > 0) == (truth > 0)).all(axis=-1).mean()
    return loss, {"characters_loss": term, "frames_right": right}
