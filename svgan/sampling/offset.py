"""The offset that transfers a clip's motion to another subject (StyleVideoGAN's offset trick).

No formula of the paper was available; these are our reconstruction, docs/papers.md#stylevideogan-offset.

Axes: B clip, T frame, L W+ layer, D width of W.
"""

from __future__ import annotations

from torch import Tensor


def offset(codes: Tensor, source: Tensor, target: Tensor) -> Tensor:
    """w_k + (w_B - w_A): move codes [..., L, D] of subject A to subject B. source: w_A [L, D]; target: w_B [L, D]."""
    return codes + (target - source)


def offset_orthogonal(codes: Tensor, source: Tensor, target: Tensor, basis: Tensor) -> Tensor:
    """w_k + o with o = (w_B - w_A) - U^T U (w_B - w_A): the offset without its component along A's motion.

    basis: U [m, L D], the principal axes of A's codes as orthonormal rows. Our reconstruction of the paper's PCA-based
    orthogonal offset.
    """
    apart = (target - source).flatten()
    apart = apart - basis.T @ (basis @ apart)
    return codes + apart.view_as(source)
