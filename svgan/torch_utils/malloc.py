"""Memory that an iteration, or a picture, frees is what the next one needs."""

from __future__ import annotations

import ctypes
import functools

TRIM_THRESHOLD, MMAP_MAX = -1, -4  # of glibc's mallopt(3)


@functools.cache
def keep_memory() -> bool:
    """Let this process keep what it frees, up to 1 GB: fresh pages were a tenth of an iteration of pca and a third of
    a picture of 1024 px (bench/LOG.md). False where the C library has no such setting."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and bool(mallopt(MMAP_MAX, 0) and mallopt(TRIM_THRESHOLD, 2**30))
