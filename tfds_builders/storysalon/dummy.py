"""A small tree with the names and contents of StorySalon's files; its pictures are coloured fields.

python -m tfds_builders.storysalon.dummy FOLDER
"""

import json
import sys
from pathlib import Path

from PIL import Image, ImageDraw

# Frames of each story. 900001 of Book and 000002 of Video are to test with; stories of fewer than four frames are left out.
STORIES = {
    "African": {"900002": 4},
    "Bloom": {"900003": 1},
    "Book": {"900001": 5, "900004": 3},
    "Digital": {"900005": 1},
    "Literacy": {"900006": 1},
    "StoryWeaver": {"900007": 1},
    "Video": {"000001": 5, "000002": 4, "000004": 2},
}
TEST = {"PDF_test_set.txt": ["900001"], "video_test_set.txt": ["000002"]}
# How the loader, the download and other copies name the folders of pictures, masks, captions and story text.
NAMES = {
    "loader": ("Image_inpainted/{part}", "Mask/{part}", "Text/Caption/{part}", "Text/Narrative_Filtered/{part}"),
    "download": (
        "StorySalon/Image_Inpainted/{part}",
        "StorySalon/Mask/{part}",
        "StorySalon/Text/Caption/{part}",
        "StorySalon/Text/Narrative/{part}",
    ),
    "beside": ("image_inpainted/{part}", "MASK/{part}", "text/caption/{part}", "text/narrative/{part}"),
}
_BESIDE = {"loader": ("image_inpainted_finally_checked", "mask")}  # videos of the loader lie elsewhere


def frame_stems(part: str, story: str, number: int) -> tuple[str, str]:
    """File names of picture and mask `number` (from 0), without extension; those of videos do not sort by letter."""
    if part == "Video":
        time = f"0-{4 * number}-{5 * number}-{100 + number}"
        return f"{story}_keyframe_{time}", f"{story}_mask_{time}"
    return (f"{story}_{number + 1:02d}",) * 2


def caption(part: str, story: str, number: int) -> str:
    return f"Picture {number + 1} of story {story} of {part}."


def write_tree(folder: str | Path, names: str = "loader", size: tuple[int, int] = (12, 16), stories=None) -> Path:
    """names: one of `NAMES`. size: (H, W) of pictures and masks. stories: frames by part and story, default `STORIES`."""
    folder = Path(folder)
    for part, counts in (stories or STORIES).items():
        places = [place.format(part=part) for place in NAMES[names]]
        if part == "Video":
            places[: len(_BESIDE.get(names, ()))] = _BESIDE.get(names, ())
        for story, count in counts.items():
            where = [folder / place / story for place in places]
            for place in where:
                place.mkdir(parents=True, exist_ok=True)
            for number in range(count):
                _write_frame(where, part, story, number, size)
    top = folder / "StorySalon" if names == "download" else folder
    for name, ids in TEST.items():
        (top / name).write_text("\n".join(ids) + ("\n" if name.startswith("PDF") else ""))
    entry = {"video_id": [["000001"]], "video_name": [["A film about a fox"]], "video_duration": [[60.5]]}
    (top / "metadata.json").write_text(json.dumps({"000001": entry}))
    return folder


def _write_frame(where: list[Path], part: str, story: str, number: int, size: tuple[int, int]) -> None:
    stem, mask_stem = frame_stems(part, story, number)
    height, width = size
    colour = (int(story) * 37 % 256, 20 * number % 256, 40 * list(STORIES).index(part))
    picture, mask = Image.new("RGB", (width, height), colour), Image.new("RGB", (width, height))
    ImageDraw.Draw(mask).rectangle((0, 0, width // 2 - 1, number % height), fill="white")
    picture.save(where[0] / f"{stem}.jpg", quality=90)
    mask.save(where[1] / f"{mask_stem}.jpg", quality=95)
    (where[2] / f"{stem}.txt").write_text(caption(part, story, number))
    (where[3] / f"{stem}.txt").write_text(f"And then, {number} ...")


if __name__ == "__main__":
    write_tree(sys.argv[1])
