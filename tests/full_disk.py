"""A full disk without filling one."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def no_room(most: int) -> Iterator[None]:
    """Files of this process grow to `most` bytes and no further: the error that then comes is the system's own."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
