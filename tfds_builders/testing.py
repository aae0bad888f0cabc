"""What the tests of the builders share."""

import io
import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from tfds_builders.pickled import load_npy

ROOT = Path(__file__).parents[1]


def build_without_tensorflow(name: str, tree: Path, data_dir: Path, config: str) -> Path:
    """Build `name` from `tree` by a process in which neither TensorFlow nor Beam can be imported; returns its folder."""
    program = f"""
import importlib.machinery as machinery
find = machinery.PathFinder.find_spec
def hide(name, path=None, target=None):
    return None if name.split(".")[0] in ("tensorflow", "apache_beam") else find(name, path, target)
machinery.PathFinder.find_spec = hide
from storyjax.data.build import build
print(build({name!r}, {str(data_dir)!r}, {config!r}, manual_dir={str(tree)!r}))
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return Path(done.stdout.strip().splitlines()[-1])


def pixels(content: Path | bytes) -> np.ndarray:
    """The pixels of a picture, three channels."""
    with Image.open(io.BytesIO(content) if isinstance(content, bytes) else content) as picture:
        return np.asarray(picture.convert("RGB"))


def cut_short(path: Path) -> None:
    """Damage a file as a broken download does."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])


def same_tree(one: Path, other: Path) -> bool:
    """Whether two trees have the same files that say the same: pictures by their pixels, `.npy` files by what they hold."""
    files = sorted(path.relative_to(one) for path in one.rglob("*") if path.is_file())
    if files != sorted(path.relative_to(other) for path in other.rglob("*") if path.is_file()):
        return False
    return all(_alike(one / file, other / file) for file in files)


def _alike(one: Path, other: Path) -> bool:
    if one.suffix == ".png":
        return np.array_equal(pixels(one), pixels(other))
    if one.suffix != ".npy":
        return one.read_bytes() == other.read_bytes()
    try:
        np.testing.assert_equal(
            *(list(held) if isinstance(held, np.ndarray) else held for held in map(load_npy, (one, other)))
        )
    except AssertionError:
        return False
    return True
