"""Reading an original library's config.json: every setting is taken, known to change nothing, or refused by its name.

A config says more than our networks can do. Silence about a setting would be silence about other numbers, so whatever was
neither taken nor recognised is an error, unless it is off (null or false): a newer library's way to say "not used".
"""

from collections.abc import Iterable, Mapping
from typing import Any

from storyjax.errors import StoryjaxError

# What a library writes beside a network's own settings: how it was saved, averaged, started, or is to generate text.
DIFFUSERS = (
    *("_class_name", "_diffusers_version", "_name_or_path", "_commit_hash", "_use_default_values"),
    *("decay", "inv_gamma", "min_decay", "optimization_step", "power", "update_after_step", "use_ema_warmup"),
)
TRANSFORMERS = (
    *("_name_or_path", "_commit_hash", "architectures", "model_type", "transformers_version", "torch_dtype", "dtype"),
    *("initializer_factor", "initializer_range", "return_dict", "chunk_size_feed_forward", "id2label", "label2id"),
    *(
        "max_length",
        "temperature",
        "top_k",
        "top_p",
        "typical_p",
        "num_beams",
        "num_beam_groups",
        "num_return_sequences",
    ),
    *("repetition_penalty", "length_penalty", "tie_word_embeddings"),
)


class Settings:
    """The settings of one config; `done` raises once, listing all that cannot be built."""

    def __init__(self, config: Mapping[str, Any], what: str):
        self.config, self.what = config, what
        self.seen: set[str] = set()
        self.wrong: list[str] = []

    def take(self, name: str, default: Any) -> Any:
        """The value of a setting, or the original library's default where the config leaves it out."""
        self.seen.add(name)
        return self.config.get(name, default)

    def fixed(self, default_first: Mapping[str, tuple[Any, ...]]) -> None:
        """Settings that must have one of the given values. The first of them is what a config means that leaves it out."""
        for name, allowed in default_first.items():
            value = self.take(name, allowed[0])
            # One value for each level or block means the same as one for all.
            values = value if isinstance(value, list | tuple) and value not in allowed else [value]
            if any(one not in allowed for one in values):
                self.refuse(name, " or ".join(repr(one) for one in allowed))

    def one(self, name: str, default: Any) -> Any:
        """A setting that may come as a list with one entry for each level, all of which must be equal here."""
        value = self.take(name, default)
        if isinstance(value, list | tuple) and value:
            if any(one != value[0] for one in value):
                self.refuse(name, "the same value at every level")
            return value[0]
        return value

    def each(self, name: str, default: Any, levels: int) -> list[Any]:
        """A setting with one value for each level; a single one stands for all."""
        value = self.take(name, default)
        return list(value) if isinstance(value, list | tuple) else [value] * levels

    def ignore(self, names: Iterable[str]) -> None:
        """Settings that change no number, whatever they say."""
        self.seen.update(names)

    def refuse(self, name: str, expected: str) -> None:
        """Note that a setting cannot be built; `expected` says what can."""
        self.wrong.append(f"{name} is {self.config.get(name)!r}, here only {expected}")

    def done(self) -> None:
        """Error unless every setting that is on was taken, fixed or ignored, and none was refused."""
        unknown = [name for name, value in self.config.items() if name not in self.seen and value not in (None, False)]
        wrong = self.wrong + [f"{name} is {self.config[name]!r}, which is not known here" for name in sorted(unknown)]
        if not wrong:
            return
        head = f"{self.what}: this network cannot be built, its config asks for what is not offered"
        if len(wrong) == 1:
            raise StoryjaxError(f"{head}: {wrong[0]}")
        raise StoryjaxError("\n".join([f"{head} in {len(wrong)} places:", *(f"    {line}" for line in wrong)]))
