"""The offset that carries a clip's motion to another subject.

Axes: B clip, T frame, L W+ layer, D width of W.
"""

from __future__ import annotations

from torch import Tensor


def offset(codes: Tensor, source: Tensor, target: Tensor) -> Tensor:
    """w_k + (w_B - w_A): codes [..., L, D] of subject A moved to B, source and target [L, D] (systems.md 1.7)."""
    return codes + (target - source)


def offset_orthogonal(codes: Tensor, source: Tensor, target: Tensor, basis: Tensor) -> Tensor:
    """w_k + o with o = (w_B - w_A) - U^T U (w_B - w_A): the offset without its part along A's motion.

    basis U [m, L D]: orthonormal rows, the principal axes of A's codes. Our reconstruction of the paper's
    PCA-orthogonal offset (systems.md 1.7).
    """
    apart = (target - source).flatten()
    apart = apart - basis.T @ (basis @ apart)
    return codes + apart.view_as(source)
