"""Clips for training and metrics: all codes are in memory on the training device, gathered by index.

Gathering takes milliseconds per batch; reading row groups takes a hundred times that
(docs/papers.md#first-measurements).

Axes: N frame, n clip, T frame of a clip, K width of the space.
"""

from __future__ import annotations

import torch
from torch import Tensor

from svgan.latents.manifest import Latents
from svgan.latents.spaces import Space
from svgan.torch_utils import rng


class ClipSource:
    """Windows of T codes in `space`; none crosses a video boundary or a frame gap.

    Raises UserError if the window is longer than every run of frames.
    """

    def __init__(self, latents: Latents, window: int, space: Space, device: torch.device | str = "cpu"):
        self.latents, self.window = latents, window
        self.space = space.to(device)
        self._starts = torch.from_numpy(latents.windows(window)).to(device)
        self._steps = torch.arange(window, device=device)
        with torch.no_grad():
            parts = torch.from_numpy(latents.codes).split(4096)
            self._codes = torch.cat([self.space.encode(part.to(device)) for part in parts])

    def __len__(self) -> int:
        """The number of windows."""
        return len(self._starts)

    @property
    def device(self) -> torch.device:
        return self._codes.device

    def draw(self, n: int, *, seed: int, step: int, stream: int = 0, rank: int = 0, world: int = 1) -> Tensor:
        """This rank's part [n / world, T, K] of a global draw of n windows, uniform with replacement.

        A pure function of its arguments. The ranks' parts in order are the draw of a single worker, so 2 workers at
        half the batch see one worker's batch. `stream` separates draws within a step.
        """
        generator = rng.generator("cpu", seed, step, stream, "clips")
        picks = torch.randint(len(self._starts), (n,), generator=generator)
        return self._gather(picks[rng.own_slice(n, rank, world)])

    def windows(self, n: int, seed: int) -> Tensor:
        """n windows [n, T, K] for metrics; distinct ones if there are enough."""
        generator = rng.generator("cpu", seed, n, "windows")
        if n <= len(self._starts):
            picks = torch.randperm(len(self._starts), generator=generator)[:n]
        else:
            picks = torch.randint(len(self._starts), (n,), generator=generator)
        return self._gather(picks)

    def _gather(self, picks: Tensor) -> Tensor:
        starts = self._starts[picks.to(self.device, non_blocking=True)]  # a GPU is not waited for
        return self._codes[starts[:, None] + self._steps]
