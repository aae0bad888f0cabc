"""A disk that fills up, for tests of what is left then."""

import contextlib
import resource
from collections.abc import Iterator


@contextlib.contextmanager
def no_file_grows_past(size: int) -> Iterator[None]:
    """Within it the real write calls fail where a file would get longer than `size` bytes ("File too large").

    A limit of the whole process, also for what pytest prints where that goes into a file: so never around a whole test.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
