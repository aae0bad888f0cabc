"""The verbs for checkpoints of other libraries: `convert` in, `export` out."""

from pathlib import Path
from typing import Literal

from tyro.conf import Positional


def convert(
    source: Positional[str],
    dest: Positional[Path],
    /,
    *,
    variant: str | None = None,
    revision: str | None = None,
    ema: bool = False,
    prediction: Literal["epsilon", "v_prediction"] | None = None,
    tokenizer: Path | None = None,
    dtype: Literal["float32", "float16", "bfloat16"] | None = None,
    allow_unused: tuple[str, ...] = (),
    overwrite: bool = False,
) -> None:
    """Write a PyTorch checkpoint as a storyjax folder, every tensor in its place or nothing.

    Args:
        source: A diffusers folder, a single Stable Diffusion file, or a Hugging Face Hub name.
        dest: The folder to write.
        variant: Which of several weight files, such as fp16.
        revision: Branch, tag or commit on the hub.
        ema: The averaged weights of a single file that has both.
        prediction: What a single file's UNet predicts, where the file does not say.
        tokenizer: A folder with CLIP's tokenizer for a single file, which has none; default: from the hub.
        dtype: What to store the weights as; default: as the source has them.
        allow_unused: Patterns (full-match regexes) of original names that may be left over.
        overwrite: Replace the model folder that stands at dest.
    """
    from storyjax.weights.conversion import convert as converted

    done = converted(
        source,
        dest,
        variant=variant,
        revision=revision,
        ema=ema,
        prediction=prediction,
        tokenizer=tokenizer,
        dtype=dtype,
        allow_unused=allow_unused,
        overwrite=overwrite,
    )
    print(done.text())


def export(
    folder: Positional[Path],
    dest: Positional[Path],
    /,
    *,
    dtype: Literal["float32", "float16", "bfloat16"] | None = None,
    overwrite: bool = False,
) -> None:
    """Write a storyjax folder as a diffusers folder; a converted one goes back byte for byte.

    Args:
        folder: A storyjax folder.
        dest: The folder to write.
        dtype: What to store the weights as; default: as the folder has them.
        overwrite: Replace the model folder that stands at dest.
    """
    from storyjax.weights.export import export as exported

    print(exported(folder, dest, dtype=dtype, overwrite=overwrite).text())
