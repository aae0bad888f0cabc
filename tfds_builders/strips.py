"""Several pictures of one clip below each other in one file, and which of them stands for the clip.

`strip` in a frame's record is (pictures, height, width): picture n is rows n * height to (n + 1) * height of the left `width`
columns.
"""

import hashlib

Strip = tuple[int, int, int]


def chosen(name: str, pictures: int, seed: int = 0) -> int:
    """Which of `pictures` pictures stands for clip `name`: the same everywhere and for ever.

    The released loaders draw one anew at every access, also to evaluate, and without a seed.
    """
    digest = hashlib.blake2b(f"{seed}/{name}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") % pictures


def square_strip(height: int, width: int) -> Strip:
    """The strip of square pictures that a file of `height` x `width` pixels is, as the PororoSV loaders cut it.

    Their side is the shorter side; rows left over below are not used. Errors (ValueError): pictures beside each other, which
    the released loaders would cut out of nothing.
    """
    side = min(height, width)
    count = max(height, width) // side
    if width > height and count > 1:
        raise ValueError(f"is {width}x{height} pixels, wider than high; a strip has its pictures below each other")
    return count, side, side
