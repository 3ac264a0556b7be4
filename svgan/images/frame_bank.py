"""The footage's frames in memory, as bytes at the size that a critic sees.

By default they are what the domain renders of the footage's W+ codes, so that codes and domain suffice, and a critic
does not learn to tell a rendering from a recording. If recorded crops are given, they are those.

Frames are rendered on first use, ROWS at a time whoever asks, so that a resumed run sees the same bits. If a clip's
frames are far apart, all are rendered at once and kept in the cache (`kept_frames`). Crops of the right size are not
copied: all processes of a machine share one map of the file.

Axes: N frame of the footage, S pixels, R the domain's pixels, L W+ layer, D width of W.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from svgan.errors import UserError
from svgan.images.domain import Domain, to_network, to_uint8
from svgan.latents.recorded_frames import frame_map

ROWS = 32  # rendered together


class FrameBank:
    """Frames by row. codes float32 [N, L, D]; render: codes on `device` to frames [n, 3, S, S] in [-1, 1].

    originals: recorded crops uint8 [N, R, R, 3] instead of renderings. Raises UserError if their number differs.
    """

    def __init__(
        self,
        codes: np.ndarray,
        render: Callable[[Tensor], Tensor],
        size: int,
        device: torch.device,
        originals: np.ndarray | None = None,
    ):
        self.codes, self.render, self.size, self.device = codes, render, size, device
        self.originals = originals
        if originals is not None and len(originals) != len(codes):
            raise UserError(
                f"footage: {len(originals)} recorded frames for {len(codes)} codes; give the videos that the codes "
                "were made from"
            )
        there = originals is not None and originals.shape[1] == size
        self._frames = (
            torch.from_numpy(originals) if there else torch.empty(len(codes), size, size, 3, dtype=torch.uint8)
        )
        self._made = torch.full((-(-len(codes) // ROWS),), there)

    def __getitem__(self, rows: Tensor) -> Tensor:
        """Frames [..., 3, S, S] in [-1, 1] of rows int64 [...]."""
        for block in (rows // ROWS).unique().tolist():
            if not self._made[block]:
                self._make(block)
        return self._frames[rows].to(self.device).movedim(-1, -3).float() / 127.5 - 1

    @torch.no_grad()
    def _make(self, block: int) -> None:
        rows = slice(block * ROWS, (block + 1) * ROWS)
        if self.originals is None:
            frames = self.render(torch.from_numpy(self.codes[rows]).to(self.device))
        else:
            frames = to_network(self.originals[rows], self.size)
        self._frames[rows] = torch.from_numpy(to_uint8(frames))
        self._made[block] = True


def kept_frames(domain: Domain, codes: np.ndarray, digest: str) -> np.ndarray:
    """The codes [N, L, D] of that digest as the domain renders them, uint8 [N, R, R, 3].

    They are rendered once per machine, with a message, and mapped from its cache.
    """
    name = hashlib.sha256(f"{digest} {domain.digest}".encode()).hexdigest()[:16]

    def made() -> Iterator[np.ndarray]:
        print(f"rendering {len(codes)} frames of the footage once (kept in the cache) ...", file=sys.stderr, flush=True)
        for first in range(0, len(codes), ROWS):
            yield domain.render(codes[first : first + ROWS])

    return frame_map(name, (len(codes), *(domain.config.resolution,) * 2, 3), made)
