"""The device that a --device flag names."""

from __future__ import annotations

import torch

from svgan.errors import UserError


def pick_device(name: str) -> torch.device:
    """Return the device of that name; 'auto' is a GPU if there is one.

    Raises UserError for a device that this machine does not have.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        return torch.zeros((), device=name).device
    except (RuntimeError, AssertionError) as error:
        kind = name.partition(":")[0]
        reason = f"{torch.cuda.device_count()} GPUs are seen" if kind == "cuda" else "unknown, or not of this torch"
        raise UserError(f"--device {name}: not usable here ({reason}); use cpu, cuda or auto") from error
