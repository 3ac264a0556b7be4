"""Random numbers as a pure function of (seed, step, stream).

Nothing of them has to be saved, and a resumed run draws the same bits. Numbers are drawn for the global batch, and each
rank keeps its slice (`own_slice`), so w ranks together use exactly the numbers of a single worker.
"""

from __future__ import annotations

import hashlib

import torch

from svgan.errors import UserError


def generator(device: torch.device | str, *key: int | str) -> torch.Generator:
    """Make a generator on `device`, seeded by the hash of `key`, such as (seed, step, 'critic noise', 2)."""
    digest = hashlib.sha256("/".join(map(str, key)).encode()).digest()
    return torch.Generator(device).manual_seed(int.from_bytes(digest[:8], "little") >> 1)


def own_slice(count: int, rank: int, world: int) -> slice:
    """Return the rank's contiguous slice of `count` samples. Raises UserError if `world` does not divide their
    number.
    """
    if count % world:
        raise UserError(f"batch: {count} clips do not divide among {world} workers; use a multiple of {world}")
    share = count // world
    return slice(rank * share, (rank + 1) * share)
