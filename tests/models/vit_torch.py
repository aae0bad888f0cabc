"""A vision transformer in PyTorch's functions, from a state dict in timm's names; low-rank adapters beside the weights."""

from typing import Any

import numpy as np

SMALL = {"width": 12, "layers": 2, "heads": 3, "mlp_width": 20, "image_size": 8, "patch_size": 4}


def shapes(config: Any) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a ViTConfig's state dict."""
    c, inner, patch = config.width, config.mlp_width, config.patch_size
    found = {
        "cls_token": (1, 1, c),
        "pos_embed": (1, (config.image_size // patch) ** 2 + 1, c),
        "patch_embed.proj.weight": (c, 3, patch, patch),
        "patch_embed.proj.bias": (c,),
        **({"pos_drop.weight": (c,), "pos_drop.bias": (c,)} if config.pre_norm else {}),
        **{"norm.weight": (c,), "norm.bias": (c,)},
        **({"proj": (c, config.projection)} if config.projection else {}),
    }
    for i in range(config.layers):
        for name, size in {
            "attn.qkv": (3 * c, c),
            "attn.proj": (c, c),
            "mlp.fc1": (inner, c),
            "mlp.fc2": (c, inner),
        }.items():
            found |= {f"blocks.{i}.{name}.weight": size, f"blocks.{i}.{name}.bias": size[:1]}
        for norm in ("norm1", "norm2"):
            found |= {f"blocks.{i}.{norm}.weight": (c,), f"blocks.{i}.{norm}.bias": (c,)}
    return found


def class_and_embedding(
    config: Any, state: dict[str, np.ndarray], images: np.ndarray, adapter=None, scale: float = 0.0
):
    """images (N, H, W, 3), normalised -> the class token after the last layer, not normed, and the normed and projected one."""
    import torch
    from torch.nn import functional as F

    w = {name: torch.from_numpy(np.asarray(value)) for name, value in state.items()}
    adapter = {name: torch.from_numpy(np.asarray(value)) for name, value in (adapter or {}).items()}

    def linear(x, name):
        y = F.linear(x, w[f"{name}.weight"], w[f"{name}.bias"])
        if f"{name}.lora_A.weight" in adapter:
            y = y + scale * F.linear(F.linear(x, adapter[f"{name}.lora_A.weight"]), adapter[f"{name}.lora_B.weight"])
        return y

    def norm(x, name):
        return F.layer_norm(x, x.shape[-1:], w[f"{name}.weight"], w[f"{name}.bias"], config.norm_eps)

    x = torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))
    x = F.conv2d(x, w["patch_embed.proj.weight"], w["patch_embed.proj.bias"], stride=config.patch_size)
    x = x.flatten(2).transpose(1, 2)
    x = torch.cat([w["cls_token"].expand(len(x), -1, -1), x], dim=1) + w["pos_embed"]
    x = norm(x, "pos_drop") if config.pre_norm else x
    for i in range(config.layers):
        at = f"blocks.{i}"
        q, k, v = linear(norm(x, f"{at}.norm1"), f"{at}.attn.qkv").unflatten(-1, (3, config.heads, -1)).unbind(2)
        y = F.scaled_dot_product_attention(*(t.transpose(1, 2) for t in (q, k, v))).transpose(1, 2).flatten(2)
        x = x + linear(y, f"{at}.attn.proj")
        h = linear(norm(x, f"{at}.norm2"), f"{at}.mlp.fc1")
        h = h * torch.sigmoid(1.702 * h) if config.activation == "quick_gelu" else F.gelu(h)
        x = x + linear(h, f"{at}.mlp.fc2")
    pooled = norm(x[:, 0], "norm")
    return x[:, 0].numpy(), (pooled @ w["proj"] if "proj" in w else pooled).numpy()
