"""Tiny story data for the data room's tests: a TFDS builder with the real record, one with ragged lists, a folder."""

import io
import json
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds
from array_record.python import array_record_module
from PIL import Image
from tensorflow_datasets.proto import tf_example_pb2

CHARACTERS = ("ada", "bo", "cy", "dot")
PLACES = ("beach", "park")
SIZE, FRAMES, STORIES, TEST_STORIES = 32, 5, 20, 6


def png(pixels: np.ndarray) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


def picture(story: int, frame: int, size: int = SIZE) -> np.ndarray:
    """(H, W, 3): every story and frame has its own colours, with one pixel of its own."""
    pixels = np.full((size, size, 3), (story * 10, frame * 40, 200), np.uint8)
    pixels[story % size, frame] = (255, 255, 255)
    return pixels


def cast(story: int, frame: int) -> list[int]:
    """The characters of a frame: one to three, not in numerical order."""
    return [(story + frame + step * 3) % len(CHARACTERS) for step in range(1 + (story + frame) % 3)]


def mask(story: int, frame: int) -> np.ndarray:
    """(H, W): the k-th character of the frame is a block of value k in column block k."""
    out = np.zeros((SIZE, SIZE), np.uint8)
    for k in range(len(cast(story, frame))):
        out[8:16, 8 * k : 8 * k + 8] = k + 1
    return out


def boxes(story: int, frame: int) -> list[list[float]]:
    return [[0.25, 0.25 * k, 0.5, 0.25 * (k + 1)] for k in range(len(cast(story, frame)))]


def frame_record(story: int, frame: int) -> dict:
    gap = 3 - len(cast(story, frame))
    return {
        "image": png(picture(story, frame)),
        "mask": png(mask(story, frame)),
        "sentence": f"{CHARACTERS[cast(story, frame)[0]].title()} walks, step {frame} of story {story}.",
        "characters": cast(story, frame) + [-1] * gap,
        "boxes": boxes(story, frame) + [[0.0] * 4] * gap,
        "place": story % 2,
        "weather": frame % 2,
        "action": (story + frame) % 3,
        "names_characters": frame == 0,
        "names_place": bool(story % 2),
    }


def story_record(story: int, frames: int = FRAMES) -> dict:
    frame_list = [frame_record(story, frame) for frame in range(frames)]
    return {
        "story_id": f"s{story}",
        "title": f"Story {story}",
        "cast": sorted(set(cast(story, 0))),
        "frames": frame_list,
    }


def frame_features(ragged: bool = False) -> dict:
    f = tfds.features
    return {
        "image": f.Image(shape=(SIZE, SIZE, 3), encoding_format="png"),
        "mask": f.Image(shape=(SIZE, SIZE, 1), encoding_format="png"),
        "sentence": f.Text(),
        "characters": f.Sequence(f.ClassLabel(names=CHARACTERS)) if ragged else f.Tensor(shape=(3,), dtype=np.int32),
        "boxes": f.Sequence(f.Tensor(shape=(4,), dtype=np.float32))
        if ragged
        else f.Tensor(shape=(3, 4), dtype=np.float32),
        "place": f.ClassLabel(names=PLACES),
        "weather": f.ClassLabel(names=["sun", "rain"]),
        "action": f.ClassLabel(names=["run", "sit", "wave"]),
        "names_characters": f.Scalar(np.bool_),
        "names_place": f.Scalar(np.bool_),
    }


def features(ragged: bool = False) -> tfds.features.FeaturesDict:
    f = tfds.features
    record = {"story_id": f.Text(), "title": f.Text(), "frames": f.Sequence(frame_features(ragged))}
    if not ragged:
        record["cast"] = f.Sequence(f.ClassLabel(names=CHARACTERS))
    return f.FeaturesDict(record)


class TinyStories(tfds.core.GeneratorBasedBuilder):
    """The contract's record at 32 x 32: 20 stories to train on, 6 to test on. `records` replaces them by others."""

    VERSION = tfds.core.Version("1.0.0")
    records: dict[str, list[dict]] | None = None

    def _info(self):
        return self.dataset_info_from_configs(features=features(), disable_shuffling=True)

    def _split_generators(self, dl_manager):
        train, test = range(STORIES), range(STORIES, STORIES + TEST_STORIES)
        splits = self.records or {"train": [story_record(n) for n in train], "test": [story_record(n) for n in test]}
        return {split: enumerate(stories) for split, stories in splits.items()}

    def _generate_examples(self):
        yield from ()  # the split generators are lists already


def build(data_dir: Path, records: dict[str, list[dict]] | None = None, file_format: str = "array_record") -> Path:
    """Build `TinyStories` in `data_dir`; returns the folder of the built dataset."""
    builder = TinyStories(data_dir=str(data_dir), file_format=file_format)
    builder.records = records
    builder.download_and_prepare()
    return Path(builder.data_dir)


def build_ragged(folder: Path, stories: int) -> Path:
    """Stories whose characters and boxes are lists inside lists, as a TensorFlow-equipped builder writes them."""
    folder.mkdir(parents=True)
    writer = array_record_module.ArrayRecordWriter(
        str(folder / "ragged-train.array_record-00000-of-00001"), "group_size:1"
    )
    sizes = 0
    for story in range(stories):
        example = tf_example_pb2.Example()
        record, feature = story_record(story), example.features.feature
        feature["story_id"].bytes_list.value.append(record["story_id"].encode())
        feature["title"].bytes_list.value.append(record["title"].encode())
        for frame in record["frames"]:
            for name in ("image", "mask"):
                feature[f"frames/{name}"].bytes_list.value.append(frame[name])
            feature["frames/sentence"].bytes_list.value.append(frame["sentence"].encode())
            for name in ("place", "weather", "action", "names_characters", "names_place"):
                feature[f"frames/{name}"].int64_list.value.append(int(frame[name]))
            present = [k for k in frame["characters"] if k >= 0]
            feature["frames/characters/ragged_flat_values"].int64_list.value.extend(present)
            feature["frames/characters/ragged_row_lengths_0"].int64_list.value.append(len(present))
            flat = [value for box in frame["boxes"][: len(present)] for value in box]
            feature["frames/boxes/ragged_flat_values"].float_list.value.extend(flat)
            feature["frames/boxes/ragged_row_lengths_0"].int64_list.value.append(len(present))
        content = example.SerializeToString()
        sizes += len(content)
        writer.write(content)
    writer.close()
    template = tfds.core.ShardedFileTemplate(
        data_dir=folder,
        dataset_name="ragged",
        split="train",
        filetype_suffix="array_record",
        template="{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}",
    )
    split = tfds.core.SplitInfo(name="train", shard_lengths=[stories], num_bytes=sizes, filename_template=template)
    tfds.folder_dataset.write_metadata(
        data_dir=folder, features=features(ragged=True), split_infos=[split], check_data=False, description="ragged"
    )
    return folder


def write_folder(folder: Path, stories: list[dict] | None = None, size: int = SIZE) -> Path:
    """A user's folder: pictures `<story>/<frame>.png` and `stories.json` (default: 4 stories of 3 frames)."""
    folder.mkdir(parents=True, exist_ok=True)
    if stories is None:
        stories = [
            {
                "title": f"Tale {n}",
                "frames": [
                    {
                        "image": f"{n}/{f}.png",
                        "sentence": f"Mia and Tom sit, part {f}.",
                        "characters": ["Mia"],
                        "place": "park",
                    }
                    for f in range(3)
                ],
            }
            for n in range(4)
        ]
    for n, story in enumerate(stories):
        for f, frame in enumerate(story["frames"]):
            if "image" in frame:
                (folder / frame["image"]).parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(picture(n, f, size)).save(folder / frame["image"])
    (folder / "stories.json").write_text(json.dumps(stories))
    return folder
