"""The footage's frames in memory, as bytes at the size that a critic sees.

They are the footage as a domain renders its W+ codes, so that codes and domain are all it takes and a critic does not
learn to tell a rendering from a recording; or the recorded crops themselves, where they are given. Rendered on first
use, some at a time whoever asks for which, so that a resumed run sees the same bits.

Axes: N frame of the footage, S pixels, R the domain's pixels, L W+ layer, D width of W.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from svgan.errors import UserError
from svgan.images.domain import to_network, to_uint8


class FrameBank:
    """Frames by row. codes float32 [N, L, D]; render: codes on `device` to frames [n, 3, S, S] in [-1, 1], `together`
    of them: few where a clip's are far apart.

    originals: recorded crops uint8 [N, R, R, 3] in place of renderings. Raises UserError where they are not as many.
    """

    def __init__(
        self,
        codes: np.ndarray,
        render: Callable[[Tensor], Tensor],
        size: int,
        device: torch.device,
        originals: np.ndarray | None = None,
        together: int = 32,
    ):
        self.codes, self.render, self.size, self.device, self.together = codes, render, size, device, together
        self._frames = torch.empty(len(codes), size, size, 3, dtype=torch.uint8)
        self._made = torch.zeros(-(-len(codes) // together), dtype=torch.bool)
        if originals is not None:
            self._take(originals)

    def __getitem__(self, rows: Tensor) -> Tensor:
        """Frames [..., 3, S, S] in [-1, 1] of rows int64 [...]."""
        for block in (rows // self.together).unique().tolist():
            if not self._made[block]:
                self._render_rows(block)
        return self._frames[rows].to(self.device).movedim(-1, -3).float() / 127.5 - 1

    @torch.no_grad()
    def _render_rows(self, block: int) -> None:
        rows = slice(block * self.together, (block + 1) * self.together)
        codes = torch.from_numpy(self.codes[rows]).to(self.device)
        self._frames[rows] = torch.from_numpy(to_uint8(self.render(codes)))
        self._made[block] = True

    def _take(self, originals: np.ndarray) -> None:
        if len(originals) != len(self._frames):
            raise UserError(
                f"footage: {len(originals)} recorded frames for {len(self._frames)} codes; give the videos that the "
                "codes were made from"
            )
        for first in range(0, len(originals), 1024):
            rows = slice(first, first + 1024)
            self._frames[rows] = torch.from_numpy(to_uint8(to_network(originals[rows], self.size)))
        self._made.fill_(True)
