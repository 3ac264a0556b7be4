"""The weights of tests/vectors: a formula of each parameter's name, so that no file of weights is needed."""

import zlib

import numpy as np
import torch


def formula_weight(name: str, shape: list[int], gain: float) -> torch.Tensor:
    """The parameter or buffer `name`; the deviation of weights is sqrt(gain / inputs)."""
    if name.endswith("num_batches_tracked"):
        return torch.zeros(shape, dtype=torch.int64)
    x = np.random.RandomState(zlib.crc32(name.encode())).standard_normal(shape)
    if name.endswith("running_var"):
        x = 1 + 0.1 * np.abs(x)
    elif name.endswith(("running_mean", "bias")):
        x = 0.1 * x
    elif len(shape) == 1:
        x = 1 + 0.1 * x
    elif not name.endswith(".linear.weight"):  # of equalised learning rate
        x = x * np.sqrt(gain / np.prod(shape[1:]))
    return torch.from_numpy(np.asarray(x, np.float32))
