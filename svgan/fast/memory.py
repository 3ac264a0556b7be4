"""Memory that an iteration frees is what the next one needs."""

from __future__ import annotations

import ctypes
import functools

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # of glibc's mallopt(3)


@functools.cache
def keep_memory() -> bool:
    """Let this process keep what it frees, blocks of up to 32 MB: fresh pages were a tenth of an
    iteration of pca (bench/LOG.md). False where the C library has no such setting."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and bool(mallopt(MMAP_THRESHOLD, 2**25) and mallopt(TRIM_THRESHOLD, 2**30))
