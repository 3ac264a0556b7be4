"""Randomness as a pure function of (seed, step, stream): nothing to save, and a resumed run draws the same bits.

A draw is made for the *global* batch and each rank keeps its slice (`own_slice`), so w ranks see together exactly
what a single worker would.
"""

from __future__ import annotations

import hashlib

import torch

from svgan.errors import UserError


def generator(device: torch.device | str, *key: int | str) -> torch.Generator:
    """A generator on `device` seeded by the hash of `key`, such as (seed, step, 'critic noise', 2)."""
    digest = hashlib.sha256("/".join(map(str, key)).encode()).digest()
    return torch.Generator(device).manual_seed(int.from_bytes(digest[:8], "little") >> 1)


def own_slice(count: int, rank: int, world: int) -> slice:
    """Rank's contiguous part of `count` samples. Raises UserError where `world` does not divide them."""
    if count % world:
        raise UserError(f"batch: {count} clips do not divide among {world} workers; use a multiple of {world}")
    share = count // world
    return slice(rank * share, (rank + 1) * share)
