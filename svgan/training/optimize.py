"""Updates of weights, the same for every system.

Gradients and metrics are averaged over the ranks in one exchange. On a CPU they are then checked for non-finite
numbers, with the same result on all ranks. Then Adam takes its step.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from svgan.errors import NonFiniteLoss
from svgan.torch_utils.distributed import Process
from svgan.training.losses import wide
from svgan.training.state import State


def autocast(state: State) -> torch.autocast:
    """Autocast to bfloat16 if config.precision asks for it.

    Gradients with respect to float32 inputs (those of the penalties) stay float32.
    """
    return torch.autocast(state.device.type, torch.bfloat16, enabled=state.config.precision == "bfloat16")


def gradients(total: Tensor, module: nn.Module) -> Sequence[Tensor]:
    """Return the gradients of `total` with respect to the module's parameters, in order.

    They are 0 for parameters that the total does not depend on, such as an unused head.
    """
    return torch.autograd.grad(total, list(module.parameters()), allow_unused=True, materialize_grads=True)


def descend(
    state: State,
    part: str,
    gradients: Sequence[Tensor],
    figures: dict[str, Tensor],
    extras: Sequence[Tensor],
    process: Process,
) -> dict[str, Tensor]:
    """Take one Adam step with the part of the state named `part` ('critic'), along gradients averaged over ranks.

    figures: metrics, averaged in the same exchange, as are the tensors in extras. Returns the metrics and the
    gradient's norm.

    On a CPU a non-finite number raises NonFiniteLoss here. On a GPU the check would have to wait for the device, so the
    weights are updated. The error is raised when the metrics are read or saved (`svgan.training.state.Sums`), so the
    checkpoint before stays valid.
    """
    module: nn.Module = getattr(state, part)
    optimizer: torch.optim.Optimizer = getattr(state, f"{part}_optimizer")
    parameters = list(module.parameters())
    gradients = [
        gradient.contiguous() for gradient in gradients
    ]  # fused Adam needs the parameters' memory order (docs/traps.md)
    figures = {name: wide(value.detach()).clone() for name, value in figures.items()}
    process.mean_([*gradients, *figures.values(), *extras])
    figures[f"{part}_gradient_norm"] = torch.nn.utils.get_total_norm(gradients)
    if state.device.type == "cpu":
        require_finite(figures, state.step)
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = gradient
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return figures


def require_finite(figures: dict[str, Tensor], step: int) -> None:
    """Raise NonFiniteLoss naming the first figure that is NaN or infinite."""
    values = torch.stack(list(figures.values()))
    if not bool(values.isfinite().all()):
        name, value = next((n, float(v)) for n, v in figures.items() if not bool(v.isfinite()))
        raise NonFiniteLoss(f"{name} is {value} at step {step}; the weights are those of the step before")


@torch.no_grad()
def move_average(state: State, decay: float) -> None:
    """Update the EMA: ema = decay ema + (1 - decay) motion."""
    torch._foreach_lerp_(list(state.ema.parameters()), list(state.motion.parameters()), 1 - decay)
