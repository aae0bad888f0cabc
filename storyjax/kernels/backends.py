"""What the entries of all operations share: which platform this is, and the refusal of a backend that cannot run."""

import jax

from storyjax.config import nearest
from storyjax.errors import StoryjaxError


def platform() -> str:
    """The platform that programs are compiled for unless told otherwise: 'cpu', 'gpu' or 'tpu'."""
    return jax.default_backend()


def known(operation: str, asked: str, names: tuple[str, ...]) -> str:
    """`asked`, if the operation has an implementation of that name."""
    if asked not in names:
        raise StoryjaxError(f"{operation} has no implementation '{asked}'{nearest(asked, list(names))}")
    return asked


def refuse(operation: str, asked: str, because: str, instead: str) -> StoryjaxError:
    """The error of a named implementation that cannot run here: what was asked, what is there, what would work."""
    return StoryjaxError(f"{operation} '{asked}' {because}; use '{instead}'")
