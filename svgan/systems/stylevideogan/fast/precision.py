"""Products of float32 matrices whose operands are rounded on their way in: an inexact option, twice as fast or more.

On a CPU oneDNN rounds to bfloat16 (8 bits of 24), where the processor multiplies it in hardware, else to nothing; on a
GPU to TensorFloat-32 (11 bits). Sums stay float32, and so does all that is kept. What it does to a model: bench/LOG.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from svgan.systems.stylevideogan.state import CodesState


@contextmanager
def products(state: CodesState) -> Iterator[None]:
    """Rounded within, where the state's precision is bfloat16; of the whole process, as torch has no other setting."""
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
