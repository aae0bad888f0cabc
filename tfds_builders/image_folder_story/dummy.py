"""Two small folders of stories, one with `stories.json`, one with a folder a story.

python -m tfds_builders.image_folder_story.dummy FOLDER
"""

import json
import sys
from pathlib import Path

from PIL import Image

STORIES = [
    {
        "title": "The lost kite",
        "story_id": "kite",
        "frames": [
            {
                "image": "kite/1.png",
                "sentence": "Mia runs in the park with Tom.",
                "characters": ["Mia", "Tom"],
                "place": "park",
            },
            {"image": "kite/2.png", "sentence": "She flies a kite.", "characters": ["Mia"], "action": "fly"},
        ],
    },
    {
        "title": "Snow",
        "frames": [
            {"image": "snow/a.jpg", "sentence": "It snows.", "weather": "snow"},
            {"image": "snow/b.jpg", "sentence": "Tom sleeps.", "characters": ["Tom"]},
        ],
    },
    {
        "title": "A test",
        "split": "test",
        "frames": [
            {"image": "t/1.webp", "sentence": "Zoe is at the beach.", "characters": ["Zoe"], "place": "beach"},
            {"image": "t/2.webp", "sentence": "She swims.", "characters": ["Zoe"]},
        ],
    },
]
FOLDERS = {"train/story 2": 2, "train/story 10": 2, "test/story 1": 2}  # pictures of each


def write_tree(folder: str | Path, size: tuple[int, int] = (12, 16)) -> Path:
    """`listed/` and `folders/` below `folder`; size: (H, W)."""
    folder = Path(folder)
    for number, frame in enumerate(frame for story in STORIES for frame in story["frames"]):
        _picture(folder / "listed" / frame["image"], number, size)
    (folder / "listed/stories.json").write_text(json.dumps(STORIES, indent=1))
    for story, (name, count) in enumerate(FOLDERS.items()):
        for frame in range(count):
            file = folder / "folders" / name / f"picture {8 + 2 * frame}.png"  # 8, 10: not in the order of letters
            _picture(file, 10 * story + frame, size)
            file.with_suffix(".txt").write_text(f"Picture {frame + 1} of {name}.\n")
    return folder


def _picture(file: Path, number: int, size: tuple[int, int]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.new("RGB", size[::-1], (30 * number % 256, 255 - 20 * number % 256, 90))
    picture.putpixel((number % size[1], number % size[0]), (255, 255, 255))
    picture.save(file, lossless=True) if file.suffix == ".webp" else picture.save(file)


if __name__ == "__main__":
    write_tree(sys.argv[1])
