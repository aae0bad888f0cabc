"""One file in the layout of the original latent-diffusion code, seen as the folder of networks that diffusers would make of it.

Recognised from names and shapes: Stable Diffusion 1.x, 2.x, their inpainting versions (9 input channels) and SDXL base. Each
network comes out as diffusers' or transformers' config.json and a lazy mapping under their tensor names, so nothing else knows
this layout.
"""

import dataclasses
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

from storyjax.config import nearest
from storyjax.errors import StoryjaxError
from storyjax.weights import latent_configs, latent_names
from storyjax.weights.readers import Reader, open_tensors
from storyjax.weights.renamed import Change, Places, Renamed

UNET, VAE, EMA = "model.diffusion_model.", "first_stage_model.", "model_ema."
CLIP_L, OPEN_CLIP_H = "cond_stage_model.transformer.", "cond_stage_model.model."
XL_CLIP_L, XL_OPEN_CLIP = "conditioner.embedders.0.transformer.", "conditioner.embedders.1.model."
SIGN = f"{UNET}input_blocks.0.0.weight"
Family = Literal["sd1", "sd2", "sdxl"]
PREDICTIONS = ("epsilon", "v_prediction")
# Stable Diffusion 2 reads text before the last of OpenCLIP H's layers. By its number, not by how many there are: folders of
# diffusers, and files made from them, leave that layer away.
OPEN_CLIP_H_LAST = 23
BASE_STEPS = 875000  # training steps of Stable Diffusion 2 base, by which diffusers tells it from 2-v

# What the original saves and no network reads: the noise schedule's tables, the VAE's training loss, counters.
_UNREAD = re.compile(
    r"(log_|sqrt_)?(one_minus_|recip_|recipm1_)?alphas_cumprod(_prev)?|betas|posterior_\w+|logvar|lvlb_weights|scale_factor"
    r"|denoiser\.sigmas|first_stage_model\.loss\..+|model_ema\.(decay|num_updates)|.+\.logit_scale|.+\.attn_mask|v_pred|ztsnr"
)


@dataclasses.dataclass(frozen=True)
class Network:
    """One network of a single file: the original library's config.json, tensors under its names."""

    config: dict[str, Any]
    tensors: Renamed


@dataclasses.dataclass(frozen=True)
class SingleFile:
    """What a single file holds, in the words of a diffusers folder.

    networks: "unet", "vae", "text_encoder", with SDXL "text_encoder_2". Names that nothing here knows stand in the network whose
    prefix they have, else in "unet", as they are: placing them is then refused as for any unknown tensor.
    index, scheduler: model_index.json and scheduler_config.json. tokenizers: folder -> the Hub name that has it and what it pads
    with; the file itself has none. guessed: what could not be told from the file, in a sentence, or None.
    has_ema: whether there are averaged weights. left_out: names that belong to no network (schedule's tables, weights not chosen).
    """

    family: Family
    inpainting: bool
    networks: dict[str, Network]
    index: dict[str, Any]
    scheduler: dict[str, Any]
    tokenizers: dict[str, dict[str, str]]
    has_ema: bool
    guessed: str | None
    left_out: list[str]


@dataclasses.dataclass(frozen=True)
class _Source:
    """Where a network lies in the file: the prefix of its names, how the rest is translated, which names it leaves unread."""

    prefix: str
    places: Callable[[str], latent_names.Targets]
    unread: str = ""


def is_latent_diffusion(tensors: Mapping[str, Any]) -> bool:
    """Whether the names are those of a whole model in the original layout."""
    return SIGN in tensors


def read_single_file(source: str | Path | Reader, *, ema: bool = False, prediction: str | None = None) -> SingleFile:
    """The networks of a single file (.safetensors, .ckpt).

    ema: the averaged weights (`model_ema.*`) instead of the last ones, for the UNet. prediction: "epsilon" or "v_prediction"; None
    takes what the file says. A Stable Diffusion 2 seldom does, and no name or shape tells: it is then guessed as diffusers
    does (epsilon if it was trained for 875,000 steps, else v), and `guessed` says so.

    Errors: another layout or model (saying which it looks like), missing networks or tensors, `ema` where there is none.
    """
    reader = open_tensors(source) if isinstance(source, str | Path) else source
    file = reader.files[0]
    if prediction not in (None, *PREDICTIONS):
        raise StoryjaxError(f"unknown prediction '{prediction}'{nearest(str(prediction), list(PREDICTIONS))}")
    if not is_latent_diffusion(reader):
        raise StoryjaxError(f"'{file}' looks like {looks_like(reader)}")
    try:
        family = _family(file, reader)
        inpainting = reader.shape_of(SIGN)[1] == 9
        predicts, guessed = _prediction(file, reader, family, inpainting, prediction)
        sources = _sources(file, reader, family)
        places = _places(file, reader, sources)
        if ema:
            places = {**places, "unet": _averaged(file, reader, places["unet"])}
        tensors = {name: Renamed(reader, at) for name, at in places.items()}
        configs = _configs(reader, tensors, family, predicts)
    except StoryjaxError:
        raise
    except KeyError as error:
        raise StoryjaxError(f"'{file}' is not a whole model: it lacks the tensor {error}; copy it again") from None
    except (IndexError, ValueError):  # an axis too few or too many where a config is read off
        raise StoryjaxError(f"'{file}' has tensors of shapes that no Stable Diffusion has; give another file") from None
    used = {key for each in tensors.values() for key in each.sources()}
    return SingleFile(
        family,
        inpainting,
        {name: Network(configs[name], each) for name, each in tensors.items()},
        latent_configs.index(family, inpainting),
        latent_configs.scheduler(family, predicts, "ztsnr" in reader),
        latent_configs.tokenizers(family),
        any(key.startswith(f"{EMA}diffusion_model") for key in reader),
        guessed,
        [key for key in reader if key not in used],
    )


def _family(file: Path, reader: Reader) -> Family:
    channels = reader.shape_of(SIGN)[1]
    others = {5: "a depth-to-image model", 7: "an upscaler", 8: "an InstructPix2Pix model"}
    if channels not in (4, 9):
        kind = others.get(channels, "another model")
        raise StoryjaxError(f"'{file}' looks like {kind} ({channels} input channels); expected 4, or 9 for inpainting")
    prefixes: dict[str, Family] = {XL_CLIP_L: "sdxl", XL_OPEN_CLIP: "sdxl", OPEN_CLIP_H: "sd2", CLIP_L: "sd1"}
    for prefix, family in prefixes.items():
        if any(key.startswith(prefix) for key in reader):
            return family
    if any(key.startswith("conditioner.embedders.0.model.") for key in reader):
        raise StoryjaxError(f"'{file}' looks like the refiner of SDXL; give the base model")
    raise StoryjaxError(
        f"'{file}' has no text encoder ({', '.join(f'{prefix}*' for prefix in prefixes)}); give the full file"
    )


def _prediction(
    file: Path, reader: Reader, family: Family, inpainting: bool, wanted: str | None
) -> tuple[str, str | None]:
    """What the UNet predicts; and a sentence where that is a guess."""
    said = {"epsilon": "epsilon", "v": "v_prediction"}.get(str(reader.metadata.get("modelspec.prediction_type")))
    told = wanted or said or ("v_prediction" if "v_pred" in reader else None)
    if told or family != "sd2" or inpainting:
        return told or "epsilon", None
    guess = "epsilon" if reader.metadata.get("global_step") == BASE_STEPS else "v_prediction"
    other = next(name for name in PREDICTIONS if name != guess)
    return guess, (
        f"'{file}' does not say what its UNet predicts; {guess} is assumed, as diffusers does. Where its pictures are noise or "
        f"grey it is the other one: choose {other}"
    )


def _sources(file: Path, reader: Reader, family: Family) -> dict[str, _Source]:
    """Where each network lies. Error: those that the file lacks."""
    layers = latent_configs.level_starts(_within(reader, UNET))[1]
    levels = latent_configs.vae_levels(_within(reader, VAE))
    sources = {
        "unet": _Source(UNET, lambda key: latent_names.unet(key, layers)),
        "vae": _Source(VAE, lambda key: latent_names.vae(key, levels)),
    }
    if family == "sd2":
        unread = rf"transformer\.resblocks\.{OPEN_CLIP_H_LAST}\..+|text_projection"
        sources["text_encoder"] = _Source(OPEN_CLIP_H, latent_names.open_clip, unread)
    else:
        sources["text_encoder"] = _Source(CLIP_L if family == "sd1" else XL_CLIP_L, lambda key: [(key, None)])
    if family == "sdxl":
        sources["text_encoder_2"] = _Source(XL_OPEN_CLIP, latent_names.open_clip)
    lacking = [f"{name} ({source.prefix}*)" for name, source in sources.items() if not _within(reader, source.prefix)]
    if lacking:
        raise StoryjaxError(f"'{file}' is not a whole model: it lacks {', '.join(lacking)}; give the full file")
    return sources


def _places(file: Path, reader: Reader, sources: Mapping[str, _Source]) -> Mapping[str, Places]:
    """For each network, new name -> (name in the file, what is done to its values)."""
    places: dict[str, dict[str, tuple[str, Change | None]]] = {name: {} for name in sources}
    for key in reader:
        if _UNREAD.fullmatch(key) or key.startswith(EMA):
            continue
        name = next((name for name, source in sources.items() if key.startswith(source.prefix)), None)
        at, found = places[name or "unet"], []
        if name is not None:
            rest = key.removeprefix(sources[name].prefix)
            if re.fullmatch(sources[name].unread, rest):
                continue
            found = sources[name].places(rest)
        for new, change in found or [(key, None)]:
            if new in at:
                raise StoryjaxError(f"'{file}': '{at[new][0]}' and '{key}' are both '{new}'; expected one of them")
            at[new] = (key, change)
    return places


def _averaged(file: Path, reader: Reader, places: Places) -> Places:
    """The UNet's places with the averaged weights in them. They were buffers of a module, whose names have no dots."""
    averaged = {
        new: (EMA + key.removeprefix("model.").replace(".", "") if key.startswith(UNET) else key, change)
        for new, (key, change) in places.items()
    }
    lacking = [key for key, _ in averaged.values() if key not in reader]
    if lacking:
        raise StoryjaxError(
            f"'{file}' has no averaged weights for {len(lacking)} tensors of its UNet (the first is '{lacking[0]}'); load it "
            "without ema"
        )
    return averaged


def _configs(
    reader: Reader, tensors: Mapping[str, Renamed], family: Family, predicts: str
) -> dict[str, dict[str, Any]]:
    def shape_in(prefix: str) -> Callable[[str], tuple[int, ...]]:
        return lambda key: reader.shape_of(prefix + key)

    pixels = 1024 if family == "sdxl" else 768 if family == "sd2" and predicts == "v_prediction" else 512
    pooled = tensors["text_encoder_2"].shape_of("text_projection.weight")[0] if family == "sdxl" else 0
    unet = latent_configs.unet(
        _within(reader, UNET),
        shape_in(UNET),
        heads=8 if family == "sd1" else None,
        sample_size=pixels // 8,
        pooled=pooled,
    )
    if pixels == 768:
        unet["upcast_attention"] = True  # its attention overflows float16 elsewhere; here scores are float32 anyway
    factor = 0.13025 if family == "sdxl" else 0.18215
    first = latent_configs.text(tensors["text_encoder"], "gelu" if family == "sd2" else "quick_gelu")
    configs = {
        "unet": unet,
        "vae": latent_configs.vae(_within(reader, VAE), shape_in(VAE), scaling_factor=factor, sample_size=pixels),
        "text_encoder": first,
    }
    if family == "sdxl":
        configs["text_encoder_2"] = latent_configs.text(tensors["text_encoder_2"], "gelu", projection=pooled)
    return configs


def _within(reader: Reader, prefix: str) -> set[str]:
    return {key.removeprefix(prefix) for key in reader if key.startswith(prefix)}


# (a piece of a tensor's name, what has it)
_SIGNS = (
    ("lora_", "a LoRA; merge it into its base model and give that"),
    (".lora", "a LoRA; merge it into its base model and give that"),
    ("control_model.", "a ControlNet, which steers a model and is none itself"),
    ("double_blocks.", "a Flux model, which is not Stable Diffusion 1, 2 or XL"),
    ("joint_blocks.", "a Stable Diffusion 3 model; expected Stable Diffusion 1, 2 or XL"),
    ("motion_modules.", "motion modules of AnimateDiff, not a whole model"),
    ("string_to_param.", "a textual inversion (a learned word), not a model"),
    ("emb_params", "a textual inversion (a learned word), not a model"),
    ("clip_g", "a textual inversion (a learned word), not a model"),
    ("down_blocks.", "one network of a diffusers folder; give the folder around it, which has a model_index.json"),
    ("first_stage_model.", "a picture codec alone, not a whole model"),
    ("encoder.down.", "a picture codec alone, not a whole model"),
    ("text_model.", "a CLIP encoder alone, not a whole model"),
)


def looks_like(names: Iterable[str]) -> str:
    """One clause about a file that is no whole model of the original layout, by the names of its tensors."""
    names = sorted(names)
    for piece, meaning in _SIGNS:
        if any(piece in name for name in names):
            return meaning
    some = ", ".join(names[:3])
    return f"no model of this layout (its tensors are {some}, ...; expected '{SIGN}' among them)"
