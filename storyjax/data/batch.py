"""What a batch holds: chosen by name, so that nothing is decoded, read or computed that the model does not use."""

import dataclasses
from typing import Literal

from storyjax.config import nearest
from storyjax.data.source import StorySource
from storyjax.errors import StoryjaxError

TRUTH = ("characters", "place", "weather", "action", "names_characters", "names_place")


@dataclasses.dataclass(frozen=True)
class BatchSpec:
    """The fields of a batch of B stories of F frames; every field is a numpy array.

    | choice | field | shape, type |
    |---|---|---|
    | always | `index` | (B,) int64, position in the source; -1 marks a row that only fills up a last batch |
    | `pictures="images"` | `images` | (B, F, H, W, 3) uint8, 0..255 |
    | `pictures="latents"` | `latents_mean`, `latents_std` | (B, F, h, w, C) float32, of the VAE's posterior, from a cache |
    | `text="tokens"` | `tokens` | (B, F, L) int32 |
    | `text="states"` | `text` | (B, F, L, C) float32, states of a frozen text encoder, from a cache |
    | `truth=("characters",)` | `characters` | (B, F, K) uint8, multi-hot over `source.labels.characters` |
    | `truth=("place", "weather", "action")` | the same names | (B, F) int32, -1 where unknown |
    | `truth=("names_characters", "names_place")` | the same names | (B, F) bool: the sentence says it by name |
    | `extra=("name",)` | the same name | (B, ...) any further array of a cache, float32 |

    `pictures=None` or `text=None` leaves that part out; `truth=TRUTH` asks for all of it.
    """

    pictures: Literal["images", "latents"] | None = "images"
    text: Literal["tokens", "states"] | None = "tokens"
    truth: tuple[str, ...] = ()
    extra: tuple[str, ...] = ()

    @property
    def fields(self) -> tuple[str, ...]:
        """The fields a source must have (`tokens` and `index` are added by the pipeline)."""
        pictures = {None: (), "images": ("images",), "latents": ("latents_mean", "latents_std")}[self.pictures]
        return (*pictures, *(("text",) if self.text == "states" else ()), *self.truth, *self.extra)

    def check(self, source: StorySource) -> None:
        """Errors: a truth field that does not exist, or a field that `source` does not have."""
        for name in self.truth:
            if name not in TRUTH:
                raise StoryjaxError(f"truth has no field '{name}'{nearest(name, list(TRUTH))}")
        missing = [name for name in self.fields if name not in source.fields]
        if missing:
            cached = [name for name in missing if name not in TRUTH]
            remedy = (
                "build a cache with build_cache and open it with CachedSource"
                if cached
                else "the data must be labelled"
            )
            raise StoryjaxError(
                f"{source!r} has no {', '.join(missing)}; {remedy} (it has: {', '.join(source.fields)})"
            )
