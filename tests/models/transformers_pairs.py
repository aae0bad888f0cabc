"""CLIP and OWL-ViT as transformers builds them, at toy and at real size, with random weights; and what they compute."""

from typing import Any

import numpy as np

SMALL_TEXT = {
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "vocab_size": 60,
    "max_position_embeddings": 9,
}
SMALL_VISION = {
    "hidden_size": 24,
    "intermediate_size": 20,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "image_size": 14,
    "patch_size": 7,
}
# Both the largest id and the id 31 stand elsewhere than at the end, and repeat.
TOKENS = np.array([[3, 7, 31, 59, 59, 31, 1, 1, 1], [1, 59, 31, 2, 59, 31, 31, 1, 1], [5, 6, 7, 8, 9, 31, 59, 1, 1]])


def clip_config(*, end: int = 2, act: str = "quick_gelu", projection: int = 10) -> dict[str, Any]:
    """A toy CLIPModel's config.json, the encoders' own `projection_dim` saying something else, as in released ones."""
    return {
        "architectures": ["CLIPModel"],
        "model_type": "clip",
        "projection_dim": projection,
        "text_config": {**SMALL_TEXT, "hidden_act": act, "eos_token_id": end, "projection_dim": 7, "pruned_heads": {}},
        "vision_config": {"hidden_size": 8},
        "text_config_dict": None,
        "vision_config_dict": {**SMALL_VISION, "hidden_act": act, "projection_dim": 7},  # goes before the other
    }


def owlvit_config() -> dict[str, Any]:
    """A toy OwlViTForObjectDetection's config.json."""
    return {
        "architectures": ["OwlViTForObjectDetection"],
        "model_type": "owlvit",
        "projection_dim": 16,
        "text_config": SMALL_TEXT,
        "vision_config": SMALL_VISION | {"image_size": 21},
    }


def built(config: dict[str, Any]) -> Any:
    """The network of transformers, every tensor a random function of its name, to evaluate."""
    import torch
    import transformers

    from tests.goldens.make_inputs import named_weight

    name = config["architectures"][0]
    settings = {"CLIPModel": transformers.CLIPConfig, "OwlViTForObjectDetection": transformers.OwlViTConfig}[name]
    plain = {key: value for key, value in config.items() if key not in ("architectures", "model_type")}
    network = getattr(transformers, name)(settings(**plain))
    shapes = {key: tuple(value.shape) for key, value in network.state_dict().items()}
    network.load_state_dict(
        {key: torch.from_numpy(np.asarray(named_weight(key, shape), np.float32)) for key, shape in shapes.items()}
    )
    return network.eval()


def tensors(network: Any) -> dict[str, np.ndarray]:
    """Its state_dict as arrays."""
    return {name: value.numpy() for name, value in network.state_dict().items()}


def pictures(count: int, side: int, seed: int = 0) -> np.ndarray:
    """Normalised pictures (N, H, W, 3)."""
    return np.random.default_rng(seed).standard_normal((count, side, side, 3)).astype(np.float32)


def embedded(network: Any, images: np.ndarray, tokens: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of a CLIPModel: vectors of pictures and of texts."""
    import torch

    with torch.no_grad():
        image = network.get_image_features(pixel_values=torch.from_numpy(images.transpose(0, 3, 1, 2).copy()))
        text = network.get_text_features(input_ids=torch.from_numpy(tokens.astype(np.int64)))
    return tuple(getattr(found, "pooler_output", found).numpy() for found in (image, text))


def detected(network: Any, images: np.ndarray, tokens: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of an OWL-ViT: boxes (N, M, 4) and logits (N, M, Q) of the same texts in every picture."""
    import torch

    with torch.no_grad():
        found = network(
            pixel_values=torch.from_numpy(images.transpose(0, 3, 1, 2).copy()),
            input_ids=torch.from_numpy(np.tile(tokens, (len(images), 1)).astype(np.int64)),
        )
    return found.pred_boxes.numpy(), found.logits.numpy()


def relative(ours: Any, theirs: np.ndarray) -> float:
    """|ours - theirs| / |theirs| of the whole array, in float64."""
    ours, theirs = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    return float(np.linalg.norm(ours - theirs) / np.linalg.norm(theirs))
