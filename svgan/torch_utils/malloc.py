"""Settings of glibc's allocator: keep freed memory for reuse."""

from __future__ import annotations

import ctypes
import functools

TRIM_THRESHOLD, MMAP_MAX = -1, -4  # parameters of glibc's mallopt(3)


@functools.cache
def keep_memory() -> bool:
    """Tell glibc to keep up to 1 GB of freed memory for reuse; return False if the C library has no such setting.

    Page faults of fresh memory cost a tenth of a `pca` step, and a third of rendering a picture of 1024 px
    (bench/LOG.md).
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and bool(mallopt(MMAP_MAX, 0) and mallopt(TRIM_THRESHOLD, 2**30))
