"""Products of float32 matrices with rounded operands: an inexact option, at least twice as fast.

On a CPU, oneDNN rounds operands to bfloat16 (8 bits of 24) if the processor multiplies it in hardware; otherwise it
does not round. On a GPU, operands are rounded to TensorFloat-32 (11 bits). Sums and everything stored stay float32.
bench/LOG.md shows the effect on a model.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from svgan.systems.stylevideogan.state import CodesState


@contextmanager
def products(state: CodesState) -> Iterator[None]:
    """Round products within this block if the state's precision is bfloat16. Torch sets this for the whole process."""
    if state.config.precision == "float32":
        yield
        return
    on_gpu = state.device.type == "cuda"
    backend = torch.backends.cuda.matmul if on_gpu else torch.backends.mkldnn.matmul  # type: ignore[attr-defined]
    before = backend.fp32_precision
    backend.fp32_precision = "tf32" if on_gpu else "bf16"
    try:
        yield
    finally:
        backend.fp32_precision = before
