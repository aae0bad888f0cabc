"""Stories of a built TFDS dataset, read from its array_record files without TensorFlow.

A record is a serialised `tf.train.Example` under TFDS's naming (`frames/sentence`, `frames/image`, ...). It is parsed
here rather than by `features.deserialize_example_np`, which decodes every PNG: 0.04 ms instead of 2.4 ms a story, so
the sentences and the truth of 20,000 stories are read in about a second.
"""

import functools
import hashlib
import io
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
from PIL import Image

from storyjax.config import nearest
from storyjax.data import folder
from storyjax.data.build import default_data_dir
from storyjax.data.images import (
    Fit,
    Size,
    as_size,
    cut_from_strip,
    fit_boxes,
    fit_picture,
    read_picture,
    stretch_picture,
)
from storyjax.data.labels import labels_from_features
from storyjax.data.source import StorySource, StoryTable, settle_frames
from storyjax.data.windows import Windows
from storyjax.errors import StoryjaxError
from tfds_builders.strips import chosen

_INTEGERS = ("place", "weather", "action")
_FLAGS = ("names_characters", "names_place")
_KNOWN = {"image", "mask", "figure", "sentence", "characters", "boxes", "strip", *_INTEGERS, *_FLAGS}
_CHUNK = 256  # records read in one call: the reader works on them in parallel


def open_source(
    name_or_folder: str | Path,
    split: str = "train",
    data_dir: str | Path | None = None,
    size: int | tuple[int, int] | None = None,
    frames: int | None = None,
    *,
    fit: Fit = "crop",
    windows: int | None = None,
    any_length: bool = False,
) -> StorySource:
    """Open stories for training or evaluation.

    `name_or_folder`: a dataset built by `storyjax data build` ("cartoon_stories", "cartoon_stories/px64"), the folder
    of a built dataset (with `dataset_info.json`), or the user's own folder with `stories.json`. `split`: "train",
    "test", "train[:100]", "train+validation" (slices and sums for built datasets only). `data_dir`: where built datasets
    lie, default as for building. `size`: pixels, one number or (H, W); pictures of another size are resized and
    centre-cropped (`storyjax.data.images`). `frames`: use the first `frames` frames of every story. `fit`: "stretch" brings
    pictures of a built dataset to `size` without keeping their shape, as StoryGen does. `windows`: of stories of any length,
    every run of so many frames is one item (`storyjax.data.windows`). `any_length`: stories of a built dataset keep all their
    frames, however many.

    Errors: dataset not built (naming the command), unknown split, and everything the stories themselves can do wrong.
    """
    path = Path(name_or_folder)
    if windows is not None and frames is not None:
        raise StoryjaxError(f"windows={windows} take all frames of a story; leave out frames={frames}")
    if (path / folder.STORIES).is_file():
        if fit != "crop" or windows is not None:
            raise StoryjaxError(
                "fit= and windows= are for built datasets; build the folder with `image_folder_story` first"
            )
        return folder.FolderSource(path, split, size=size, frames=frames)
    if not (path / "dataset_info.json").is_file():
        if path.is_dir():
            raise StoryjaxError(
                f"folder '{path}' holds neither {folder.STORIES} nor a built dataset (dataset_info.json)"
            )
        path = _built_folder(str(name_or_folder), data_dir)
    if windows is None:
        return RecordSource(path, split, size=size, frames=frames, fit=fit, any_length=any_length)
    return Windows(RecordSource(path, split, size=size, fit=fit, any_length=True), windows)


def _built_folder(name: str, data_dir: str | Path | None) -> Path:
    """The newest built version of dataset `name` (`name`, `name/config` or `name/config/version`)."""
    base = Path(data_dir).expanduser() if data_dir else default_data_dir()
    root = base / name
    found = [path.parent for depth in ("", "*/", "*/*/") for path in root.glob(f"{depth}dataset_info.json")]
    built = [path for path in found if re.fullmatch(r"\d+\.\d+\.\d+", path.name)]  # no half-built or set-aside folders
    if not built:
        dataset, *config = name.split("/")
        command = f"storyjax data build {dataset}" + (f" --config {config[0]}" if config else "")
        raise StoryjaxError(
            f"dataset '{name}' is not built in '{base}'; build it with `{command}`, or give the folder of your own stories"
        )
    configs = sorted({str(path.parent.relative_to(base)) for path in built})
    if len(configs) > 1:
        configs = [config for config in configs if config == f"{name}/{_default_config(root)}"] or configs
    if len(configs) > 1:
        raise StoryjaxError(f"dataset '{name}' is built in several configurations, name one: {', '.join(configs)}")
    chosen = [path for path in built if str(path.parent.relative_to(base)) == configs[0]]
    return max(chosen, key=lambda path: [int(part) for part in path.name.split(".")])


def _default_config(root: Path) -> str | None:
    """The configuration that TFDS noted as the default one of a dataset."""
    try:
        return json.loads((root / ".config" / "metadata.json").read_text())["default_config_name"]
    except (OSError, ValueError, KeyError):
        return None


class RecordSource(StorySource):
    """The stories of one split of a built dataset.

    Adds to a decoded story, where the records have them: `masks` (F, H, W) uint8, 0 background and 1+k the character of
    column k of the multi-hot rows; `boxes` (F, K, 4) float32 (ymin, xmin, ymax, xmax) in 0..1, zeros where absent;
    `figures` (F, H, W) uint8, figure against ground in the values of the data set, which does not say whose figure it is;
    any other field of fixed shape under its name, (F, ...).

    `fit` is a policy of `storyjax.data.images`. With `any_length` stories keep all their frames; such a source is for
    `Windows`, which asks for frames, and for evaluating, story by story.

    Where a frame is a strip of several pictures, `images` and `source[i]` give the one that its name chooses, always and
    everywhere the same (`tfds_builders.strips.chosen`).
    """

    def __init__(
        self,
        path: str | Path,
        split: str,
        size: int | tuple[int, int] | None = None,
        frames: int | None = None,
        fit: Fit = "crop",
        any_length: bool = False,
    ):
        import tensorflow_datasets as tfds  # 1.5 s, paid only where a built dataset is read

        builder: Any = tfds.builder_from_directory(str(path))
        known = list(builder.info.splits)
        for part in (part.split("[")[0] for part in split.split("+")):
            if part not in known:
                raise StoryjaxError(f"dataset '{builder.info.name}' has no split '{part}'{nearest(part, known)}")
        if "frames" not in builder.info.features:
            raise StoryjaxError(
                f"'{path}' holds no stories: its records have {', '.join(builder.info.features)}, not frames"
            )
        try:
            self._records = builder.as_data_source(split, deserialize_method=tfds.decode.DeserializeMethod.RAW_BYTES)
        except (RuntimeError, ValueError) as error:  # a file format without random access, a slice that does not parse
            raise StoryjaxError(
                f"split '{split}' of '{path}' cannot be read: {str(error).strip().splitlines()[0]}"
            ) from None
        self.path, self.name, self.split = Path(path), builder.info.full_name, split
        self._where = f"dataset '{builder.info.full_name}', split '{split}'"
        self.labels = labels_from_features(builder.info.features, builder.info.metadata, self._where)
        self.given = int((builder.info.metadata or {}).get("given_frames", 0))
        self.has_strips = "strip" in builder.info.features["frames"].feature
        self._others = _other_fields(builder.info.features["frames"].feature)
        self._asked, self.fit = as_size(size), fit
        self._fit = {"crop": fit_picture, "stretch": stretch_picture}[fit]
        self.table, self.frames = _read_table(
            self._where,
            self._all_records(),
            {name: kind for name, kind in builder.info.features["frames"].feature.items() if self.labels.tell(name)},
            len(self.labels.characters),
            frames,
            any_length,
        )
        self.size = self._asked or self._first_size()

    def images(self, index: int) -> np.ndarray:
        return self._images(index, None, range(self.lengths[index]))

    def some_images(self, index: int, frames: range) -> np.ndarray:
        return self._images(index, None, frames)

    def some_figures(self, index: int, frames: range) -> np.ndarray | None:
        features = _features(self._records[index])
        if "frames/figure" not in features or not all(features["frames/figure"].bytes_list.value[f] for f in frames):
            return None
        return self._figures(index, features, frames)

    def random_images(self, index: int, rng: np.random.Generator) -> np.ndarray:
        return self._images(index, rng, range(self.lengths[index]))

    def _images(self, index: int, rng: np.random.Generator | None, frames: range) -> np.ndarray:
        features = _features(self._records[index])
        content = features["frames/image"].bytes_list.value
        pictures = [read_picture(content[f], self._what(index, f)) for f in frames]
        if self.has_strips:
            cuts = self._cuts(index, features, rng)
            pictures = [cut_from_strip(picture, *cuts[f]) for f, picture in zip(frames, pictures)]
        for f, picture in zip(frames, pictures):
            if self._asked is None and (picture.height, picture.width) != self.size:
                raise StoryjaxError(
                    f"{self._what(index, f)} is {picture.height}x{picture.width}, the first one {self.size[0]}x"
                    f"{self.size[1]}; pass size= to resize and centre-crop them all"
                )
        return np.stack([self._fit(picture, self.size) for picture in pictures])

    def __getitem__(self, index: int) -> dict[str, Any]:
        index = range(len(self))[index]
        story, features = super().__getitem__(index), _features(self._records[index])
        count, frames = len(features["frames/sentence"].bytes_list.value), range(self.lengths[index])
        for name, shape in self._others.items():
            story[name] = np.asarray(_values(features[f"frames/{name}"])).reshape(count, *shape)[: len(frames)]
        present = _rows(features, "frames/characters", count) if "characters" in story else [[]] * count
        characters = [[int(k) for k in present[f] if k >= 0] for f in frames]
        if "frames/mask" in features:
            story["masks"] = self._masks(features, characters)
        if "frames/boxes" in features or "frames/boxes/ragged_flat_values" in features:
            story["boxes"] = self._boxes(features, characters)
        if "frames/figure" in features and all(features["frames/figure"].bytes_list.value[: len(frames)]):
            story["figures"] = self._figures(index, features, frames)
        return story

    def _masks(self, features: Mapping[str, Any], characters: list[list[int]]) -> np.ndarray:
        """(F, H, W), renumbered from "k-th of this frame" to "character k"."""
        out = np.zeros((len(characters), *self.size), np.uint8)
        for f, present in enumerate(characters):
            renumber = np.zeros(256, np.uint8)
            renumber[1 : 1 + len(present)] = np.array(present, int) + 1
            out[f] = renumber[self._fit(_gray(features["frames/mask"], f), self.size, nearest=True)]
        return out

    def _boxes(self, features: Mapping[str, Any], characters: list[list[int]]) -> np.ndarray:
        """(F, K, 4), from "k-th of this frame" to "character k"."""
        boxes = _rows(features, "frames/boxes", len(features["frames/sentence"].bytes_list.value))
        out = np.zeros((len(characters), len(self.labels.characters), 4), np.float32)
        for f, present in enumerate(characters):
            rows = np.asarray(boxes[f], np.float32).reshape(-1, 4)[: len(present)]
            if self.fit == "stretch":  # what is a share of the picture stays one
                out[f, present[: len(rows)]] = rows
                continue
            with Image.open(io.BytesIO(features["frames/image"].bytes_list.value[f])) as picture:
                source = picture.height, picture.width
            out[f, present[: len(rows)]] = fit_boxes(rows, source, self.size)
        return out

    def _figures(self, index: int, features: Mapping[str, Any], frames: range) -> np.ndarray:
        """(F, H, W) as the data set has them; of a strip, of the picture that `images` gives."""
        read = _gray if self.fit == "crop" else _first_channel
        figures = [read(features["frames/figure"], f) for f in frames]
        if self.has_strips:
            cuts = self._cuts(index, features, None)
            figures = [cut_from_strip(figure, *cuts[f]) for f, figure in zip(frames, figures)]
        return np.stack([self._fit(figure, self.size, nearest=self.fit == "crop") for figure in figures])

    def _cuts(
        self, index: int, features: Mapping[str, Any], rng: np.random.Generator | None
    ) -> list[tuple[int, int, int]]:
        """(number, height, width) of the picture to cut out of each frame's strip: the frame's own, or one that `rng` draws."""
        strips = _rows(features, "frames/strip", len(features["frames/sentence"].bytes_list.value))[: self.frames]
        names = self.table.texts.get("frame_id", {index: [f"{self.table.ids[index]}/{f}" for f in range(self.frames)]})
        numbers = [
            chosen(n, count) if rng is None else rng.integers(count) for n, (count, _, _) in zip(names[index], strips)
        ]
        return [(int(number), height, width) for number, (_, height, width) in zip(numbers, strips)]

    def fingerprint(self) -> dict[str, Any]:
        counts = {"stories": len(self), "frames": self.frames, "size": list(self.size)}
        fit = {"fit": self.fit} if self.fit != "crop" else {}
        return {"dataset": self.name, "split": self.split, **counts, **fit, "content": self._content_hash}

    @functools.cached_property
    def _content_hash(self) -> str:
        digest = hashlib.blake2b(digest_size=16)
        for record in self._all_records():
            features = _features(record)
            for name in sorted(features):  # records of the same content may have their fields in another order
                digest.update(f"{name}:".encode())
                digest.update(features[name].SerializeToString())
        return digest.hexdigest()

    def _all_records(self) -> Iterator[bytes]:
        for start in range(0, len(self._records), _CHUNK):
            yield from self._records.__getitems__(list(range(start, min(start + _CHUNK, len(self._records)))))

    def _first_size(self) -> Size:
        features = _features(self._records[0])
        if self.has_strips:
            return self._cuts(0, features, None)[0][1:]
        first = read_picture(features["frames/image"].bytes_list.value[0], self._what(0, 0))
        return first.height, first.width

    def _what(self, index: int, frame: int) -> str:
        return f"the picture of story '{self.table.ids[index]}', frame {frame + 1}, in {self._where}"


def _read_table(
    where: str,
    records: Iterator[bytes],
    known: Mapping[str, Any],
    characters: int,
    frames: int | None,
    any_length: bool = False,
) -> tuple[StoryTable, int]:
    """Everything but the pictures of all `records`, and the settled number of frames (of any length: the largest)."""
    ids, titles, sentences = [], [], []
    truth: dict[str, list] = {name: [] for name in ("characters", *_INTEGERS, *_FLAGS) if name in known}
    texts: dict[str, list[list[str]]] = {
        name: [] for name, kind in known.items() if _is_text(kind) and name not in _KNOWN
    }
    labelled = True
    for position, record in enumerate(records):
        features = _features(record)
        ids.append(_text(features, "story_id") or str(position))
        titles.append(_text(features, "title"))
        sentences.append([text.decode() for text in features["frames/sentence"].bytes_list.value])
        labelled &= "labelled" not in features or bool(_values(features["labelled"])[0])
        for name, values in texts.items():
            values.append([text.decode() for text in features[f"frames/{name}"].bytes_list.value])
        for name, values in truth.items():
            if name == "characters":
                values.append(multi_hot(_rows(features, "frames/characters", len(sentences[-1])), characters))
            else:
                values.append(_values(features[f"frames/{name}"]))
    lengths = [len(story) for story in sentences]
    called = [f"story '{name}'" for name in ids]
    count = max(lengths, default=0) if any_length else settle_frames(where, called, lengths, frames)
    for name, story in zip(ids, sentences):
        empty = next((f for f, sentence in enumerate(story[:count]) if not sentence.strip()), None)
        if empty is not None:
            raise StoryjaxError(f"{where}: story '{name}', frame {empty + 1} has no sentence; every frame needs one")
    if not labelled:  # who is in a frame is unknown for some, so it is not said for any
        truth.pop("characters", None)
    arrays = {}
    for name, values in truth.items():
        dtype = np.uint8 if name == "characters" else bool if name in _FLAGS else np.int32
        arrays[name] = np.array([_padded(story[:count], count, name) for story in values], dtype)
    texts = {name: [story[:count] for story in values] for name, values in texts.items()}
    return StoryTable(ids, titles, [story[:count] for story in sentences], arrays, texts), count


def _padded(story: Sequence[Any], count: int, name: str) -> list[Any]:
    """The values of a story's frames, filled up to `count` where stories have any length."""
    gap = count - len(story)
    if not gap:
        return list(story)
    nothing = np.zeros_like(story[0]) if name == "characters" else name not in _FLAGS and -1
    return [*story, *[nothing] * gap]


def _is_text(feature: Any) -> bool:
    from tensorflow_datasets.core.features import Text

    return isinstance(feature, Text)


def _other_fields(frame: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Name and shape of the frame's fields of fixed shape that have no meaning of their own here."""
    from tensorflow_datasets.core.features import Tensor

    def plain(name: str, kind: Any) -> bool:
        if name in _KNOWN or _is_text(kind) or not isinstance(kind, Tensor):
            return False
        shape, dtype = cast(tuple, kind.shape), cast(np.dtype, kind.np_dtype)
        return None not in shape and np.issubdtype(dtype, np.number)

    return {name: tuple(kind.shape) for name, kind in frame.items() if plain(name, kind)}


def _gray(feature: Any, frame: int) -> Image.Image:
    with Image.open(io.BytesIO(feature.bytes_list.value[frame])) as picture:
        return picture.convert("L")


def _first_channel(feature: Any, frame: int) -> Image.Image:
    """As StoryGen takes its masks."""
    with Image.open(io.BytesIO(feature.bytes_list.value[frame])) as picture:
        return picture.convert("RGB").getchannel(0)


def multi_hot(frames: Sequence[Sequence[int]], characters: int) -> np.ndarray:
    """(F, K) uint8 from the numbers present in every frame; -1 (padding of fixed-length records) is skipped."""
    out = np.zeros((len(frames), characters), np.uint8)
    for row, present in zip(out, frames):
        row[[k for k in present if k >= 0]] = 1
    return out


def _features(record: bytes) -> Mapping[str, Any]:
    from tensorflow_datasets.proto import tf_example_pb2

    return tf_example_pb2.Example.FromString(record).features.feature  # type: ignore[attr-defined]  # made at import


def _text(features: Mapping[str, Any], key: str) -> str:
    return features[key].bytes_list.value[0].decode() if key in features and features[key].bytes_list.value else ""


def _rows(features: Mapping[str, Any], key: str, frames: int) -> list[Sequence[Any]]:
    """The values of a list field for every frame: stored flat (as many for each frame), or ragged with row lengths."""
    if key in features:
        values = _values(features[key])
        width = len(values) // frames if frames else 0
        return [values[f * width : (f + 1) * width] for f in range(frames)]
    values, out, start = _values(features[f"{key}/ragged_flat_values"]), [], 0
    lengths = list(features[f"{key}/ragged_row_lengths_0"].int64_list.value)
    width = len(values) // sum(lengths) if sum(lengths) else 0
    for length in lengths:
        out.append(values[start * width : (start + length) * width])
        start += length
    return out or [[]] * frames


def _values(feature: Any) -> Sequence[Any]:
    kind = feature.WhichOneof("kind")
    return list(getattr(feature, kind).value) if kind else []
