"""What the recogniser is trained on: drawn frames, disturbed as a decoder's pictures are, and the sum of four cross-entropies.

It must hold on generated frames, which are softer and blotchier than drawn ones. So every training frame is moved, zoomed,
blurred, recoloured and made noisy by random amounts that reach down to nothing.
"""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from storyjax.evals.networks.recogniser import KINDS, to_unit
from storyjax.nn.build import Params, bind

SHIFT = 6.0  # pixels, either way
ZOOM = 0.06  # share of the size, either way
BLUR = (0.3, 2.0)  # standard deviation in pixels, log-uniform
TINT = 0.12  # per colour channel: contrast 1 +- TINT, brightness +- TINT, pictures in [-1, 1]
BLOTCHES = 0.2  # height of noise that is constant over 8x8 pixels
NOISE = 0.12  # height of grey noise per pixel


def disturb(images: jax.Array, key: jax.Array) -> jax.Array:
    """images (N, H, W, 3) in [-1, 1] -> the same shape; every frame with its own random amounts.

    Moving, zooming and blurring along one axis is one matrix: row i is a Gaussian around the place that pixel i comes
    from, normalised inside the picture, so that the border repeats.
    """
    count, height, width, _ = images.shape
    amounts_key, blotch_key, noise_key = jax.random.split(key, 3)
    either_way = jax.random.uniform(amounts_key, (count, 12), minval=-1.0)  # one draw: every draw costs compile time
    blur = jnp.exp(jnp.interp(either_way[:, 0], jnp.array([-1.0, 1.0]), jnp.log(jnp.array(BLUR))))
    zoom, down, right = 1 + ZOOM * either_way[:, 1], SHIFT * either_way[:, 2], SHIFT * either_way[:, 3]
    x = jnp.einsum("nih,nhwc->niwc", _resampling(height, zoom, down, blur), images)
    x = jnp.einsum("njw,niwc->nijc", _resampling(width, zoom, right, blur), x)

    amounts = either_way[:, None, None]
    contrast, brightness = 1 + TINT * amounts[..., 4:7], TINT * amounts[..., 7:10]
    rough, fine = BLOTCHES * amounts[..., 10:11], NOISE * amounts[..., 11:12]
    blotches = jax.random.uniform(blotch_key, (count, -(-height // 8), -(-width // 8), 3), minval=-1.0)
    blotches = jnp.repeat(jnp.repeat(blotches, 8, axis=1), 8, axis=2)[:, :height, :width]
    noise = jax.random.uniform(noise_key, (count, height, width, 1), minval=-1.0)  # grey: a third of the cost
    return jnp.clip(x * contrast + brightness + rough * blotches + fine * noise, -1, 1)


def _resampling(size: int, zoom: jax.Array, shift: jax.Array, blur: jax.Array) -> jax.Array:
    """(N, size, size): row i weighs the pixels around centre + (i - centre) * zoom + shift."""
    pixels, centre = jnp.arange(size, dtype=jnp.float32), (size - 1) / 2
    origin = centre + (pixels - centre) * zoom[:, None] + shift[:, None]
    distance = (origin[:, :, None] - pixels) / blur[:, None, None]
    return jax.nn.softmax(-0.5 * jnp.square(distance), axis=-1)


def recogniser_loss(
    graphdef: nnx.GraphDef, params: Params, batch: dict[str, Any], key: jax.Array
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """loss = sum_k BCE(character k) + CE(place) + CE(weather) + CE(action), in nats, mean over the frames.

    batch: `images` (B, F, H, W, 3) uint8, `characters` (B, F, K) multi-hot, `place`, `weather`, `action` (B, F), -1 where
    unknown (such a frame adds nothing to that term). Metrics: the terms, and the share of frames that are right per kind.
    """
    frames = {name: jnp.reshape(batch[name], (-1, *batch[name].shape[2:])) for name in ("images", *KINDS)}
    dtype = jax.tree.leaves(params)[0].dtype
    logits = bind(graphdef, params)(disturb(to_unit(frames["images"]), key).astype(dtype))
    terms, metrics = [], {}
    for kind in KINDS:
        scores, truth = logits[kind].astype(jnp.float32), frames[kind]
        if kind == "characters":
            term = optax.sigmoid_binary_cross_entropy(scores, truth.astype(jnp.float32)).sum(axis=-1)
            known, right = jnp.ones(len(scores)), ((scores > 0) == (truth > 0)).all(axis=-1)
        else:
            term = optax.softmax_cross_entropy_with_integer_labels(scores, jnp.maximum(truth, 0))
            known, right = truth >= 0, scores.argmax(axis=-1) == truth
        total = jnp.maximum(known.sum(), 1)
        terms.append((term * known).sum() / total)
        metrics |= {f"{kind}_loss": terms[-1], f"{kind}_right": (right * known).sum() / total}
    return sum(terms, jnp.float32(0)), metrics
