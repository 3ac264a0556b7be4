"""Draw the frames of a clip that the discriminator sees, real or generated.

Source: the released code, docs/papers.md#stylegan-v-frame-sampling.

Axes: B clip, T frame.
"""

from __future__ import annotations

import torch
from torch import Tensor

from svgan.errors import UserError

SPANS = (2, 4, 8, 16, 32)


def draw_times(clips: int, length: int, generator: torch.Generator, frames: int = 3) -> Tensor:
    """Draw ascending frame numbers int64 [B, T] of clips in a video of `length` frames.

    The span from first to last frame is uniform among the powers of two that the video and the number of frames allow.
    Its position is uniform. The frames between are drawn uniformly from those strictly inside. A single frame may be
    any. Raises UserError if no span is long enough.
    """
    if frames == 1:
        return torch.randint(length, (clips, 1), generator=generator, device=generator.device)
    spans = [span for span in SPANS if frames - 1 <= span < length]
    if not spans or frames < 2:
        raise UserError(
            f"frames: {frames} of a clip of {length} frames; give 1, 2 or 3, and footage of 3 frames or more"
        )
    device = generator.device
    chosen = torch.randint(len(spans), (clips,), generator=generator, device=device)
    span = torch.tensor(spans, device=device)[chosen]
    place = torch.rand(clips, generator=generator, device=device, dtype=torch.float64)
    first = (place * (length - span)).long()
    order = torch.rand(clips, max(spans) - 1, generator=generator, device=device)
    outside = torch.arange(1, max(spans), device=device) >= span[:, None]
    inside = order.masked_fill(outside, 2.0).argsort(1)[:, : frames - 2].sort(1).values + 1
    return torch.cat([first[:, None], first[:, None] + inside, (first + span)[:, None]], 1)
