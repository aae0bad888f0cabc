"""Writes drawn stories with the file names of the release, so that all that reads the release reads them.

    python -m tfds_builders.clevr_sv.released FOLDER --stories 13755 [--start 0] [--seed 0]

CLEVR_dict.npy                         dict: picture name -> 75 numbers, float64
images/CLEVR_new_000000_{1..4}.png     pictures, 320 x 240, RGBA
images/CLEVR_new_000000_{1..4}_mask.png  255 where a thing is, else 64, RGBA
scenes/CLEVR_new_000000.json           what was drawn

Several machines may each write a part (--start) into the same folder, and a part that was broken off goes on: a story whose
scene is there is complete. The last call makes CLEVR_dict.npy of all scenes in the folder.
"""

import argparse
import functools
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from tfds_builders.clevr_sv.geometry import Camera
from tfds_builders.clevr_sv.render import draw_frames, draw_masks
from tfds_builders.clevr_sv.sampling import draw_scene
from tfds_builders.clevr_sv.scene import FRAMES, Scene, Thing, attributes, directions, related
from tfds_builders.reading import cores, in_order

NUMBERS_FILE, IMAGES, SCENES = "CLEVR_dict.npy", "images", "scenes"


def story_name(index: int) -> str:
    return f"CLEVR_new_{index:06d}"


def picture_name(index: int, frame: int) -> str:
    """File name of picture `frame` (1 to 4), which is also its key in CLEVR_dict.npy."""
    return f"{story_name(index)}_{frame}.png"


def mask_name(index: int, frame: int) -> str:
    return f"{story_name(index)}_{frame}_mask.png"


def opaque_png(pixels: np.ndarray) -> bytes:
    """(H, W, 3) or (H, W) uint8 as an RGBA PNG, in little time."""
    out = io.BytesIO()
    picture = Image.fromarray(pixels).convert("RGBA")
    picture.save(out, "PNG", compress_level=3)
    return out.getvalue()


def draw_story(seed: int, index: int) -> tuple[Scene, list[bytes], list[bytes]]:
    """A story's scene, its four pictures and its four masks as PNG."""
    scene = draw_scene(seed, index)
    return scene, [opaque_png(frame) for frame in draw_frames(scene)], [opaque_png(mask) for mask in draw_masks(scene)]


def scene_json(scene: Scene, index: int) -> dict[str, Any]:
    """The scene as the original script notes it."""
    camera = Camera(scene.camera)
    named = {name: [*vector, 0.0] for name, vector in directions().items()}
    return {
        "split": "new",
        "image_index": index,
        "image_filename": f"{story_name(index)}.png",
        "objects": [_noted(thing, camera) for thing in scene.things],
        "directions": named | {"above": [0.0, 0.0, 1.0], "below": [0.0, 0.0, -1.0]},
        "relationships": {
            name: [
                [j for j, one in enumerate(scene.things) if one is not other and related(name, one, other)]
                for other in scene.things
            ]
            for name in ("right", "behind", "front", "left")
        },
    }


def _noted(thing: Thing, camera: Camera) -> dict[str, Any]:
    u, v, depth = camera.project(np.array(thing.center))
    return {
        "shape": thing.shape,
        "size": thing.size,
        "material": thing.material,
        "color": thing.color,
        "3d_coords": list(thing.center),
        "rotation": thing.turn,
        "pixel_coords": [round(float(u)), round(float(v)), float(depth)],
    }


def write_story(folder: Path, seed: int, index: int) -> None:
    """The files of one story; its scene comes last and says that all is there."""
    note = folder / SCENES / f"{story_name(index)}.json"
    if note.is_file():
        return
    scene, pictures, masks = draw_story(seed, index)
    for frame in range(1, FRAMES + 1):
        (folder / IMAGES / picture_name(index, frame)).write_bytes(pictures[frame - 1])
        (folder / IMAGES / mask_name(index, frame)).write_bytes(masks[frame - 1])
    partial = note.with_suffix(".partial")
    partial.write_text(json.dumps(scene_json(scene, index), indent=1))
    partial.replace(note)


def write_numbers(folder: Path) -> None:
    """CLEVR_dict.npy of all scenes of the folder."""
    numbers: dict[str, np.ndarray] = {}
    for file in sorted((folder / SCENES).glob("CLEVR_new_*.json")):
        scene = json.loads(file.read_text())
        things = [
            Thing(*(thing[name] for name in ("shape", "color", "material", "size")), *thing["3d_coords"][:2])
            for thing in scene["objects"]
        ]
        rows = attributes(things, scene["directions"]["right"])
        numbers |= {picture_name(scene["image_index"], frame + 1): rows[frame] for frame in range(FRAMES)}
    np.save(folder / NUMBERS_FILE, np.array(numbers, dtype=object), allow_pickle=True)


def write_released(folder: str | Path, indices: Sequence[int], seed: int = 0, processes: int | None = None) -> Path:
    """Draw the stories `indices` into `folder` in the released layout; what is there is kept.

    processes: that draw; None takes one per core.
    """
    folder = Path(folder)
    for name in (IMAGES, SCENES):
        (folder / name).mkdir(parents=True, exist_ok=True)
    made = in_order(functools.partial(write_story, folder, seed), indices, processes or cores())
    for _ in tqdm(made, total=len(indices), unit="story", desc=f"drawing into {folder}", mininterval=1.0):
        pass
    write_numbers(folder)
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(description="Draw CLEVR-SV stories with the file names of the release.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--stories", type=int, default=13_755, help="how many (the release has 13755)")
    parser.add_argument("--start", type=int, default=0, help="number of the first")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=None, help="that draw; default: one per core")
    asked = parser.parse_args()
    write_released(asked.folder, range(asked.start, asked.start + asked.stories), asked.seed, asked.processes)


if __name__ == "__main__":
    main()
