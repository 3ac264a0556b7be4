"""Principal axes of W+ codes and the standard deviations along them.

Axes: N frame, P number of a code, C component.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

EXACT_LIMIT = 2048  # the side of the largest matrix that is diagonalised exactly


def principal_axes(x: np.ndarray, components: int, exact_limit: int = EXACT_LIMIT) -> tuple[np.ndarray, np.ndarray]:
    """Leading axes [C, P] (orthonormal rows) and standard deviations [C] of centred rows x [N, P], float32.

    C = min(components, N - 1, P). Up to `exact_limit`, the smaller of covariance and Gram matrix is diagonalised in
    float64. Beyond it, block power iteration with a fixed start (Halko et al. 2011) finds the leading axes. Each axis's
    largest entry is positive, so that the same codes give the same bits on the same processor
    with as many threads.
    """
    n, p = x.shape
    count = max(1, min(components, n - 1, p))
    data = torch.from_numpy(np.ascontiguousarray(x, np.float32))
    if p <= min(n, exact_limit):
        _, vectors = torch.linalg.eigh(data.T.double() @ data.double())
        axes = vectors.T.flip(0)[:count]
    elif n <= exact_limit:
        double = data.double()
        _, vectors = torch.linalg.eigh(double @ double.T)
        axes = vectors.T.flip(0)[:count] @ double
    else:
        axes = _power_iteration(data, count)
    axes = torch.linalg.qr(axes.double().T).Q.T
    largest = axes.gather(1, axes.abs().argmax(1, keepdim=True))
    axes = (axes * torch.where(largest < 0, -1.0, 1.0)).float()
    scale = (data @ axes.T).double().square().mean(0).sqrt()
    return axes.numpy(), scale.float().numpy()


def _power_iteration(data: Tensor, count: int, rounds: int = 12, extra: int = 32) -> Tensor:
    """Leading right singular vectors [count, P] of data [N, P] by subspace iteration."""
    width = min(count + extra, *data.shape)
    block = torch.randn(data.shape[1], width, generator=torch.Generator().manual_seed(0))
    for _ in range(rounds):
        block = torch.linalg.qr(data.T @ (data @ block)).Q
    _, _, right = torch.linalg.svd(data @ block, full_matrices=False)
    return (right @ block.T)[:count]
