"""How a step moves weights, the same for every system.

Gradients and figures are averaged over the ranks in one exchange, on a CPU checked for numbers that are not finite (by
then on all ranks alike), and only then taken by Adam.
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
    """bfloat16 where config.precision asks for it. Gradients by float32 inputs (the penalties') stay float32."""
    return torch.autocast(state.device.type, torch.bfloat16, enabled=state.config.precision == "bfloat16")


def gradients(total: Tensor, module: nn.Module) -> Sequence[Tensor]:
    """By the module's parameters in order; 0 by those that the total does not depend on, such as a head without use."""
    return torch.autograd.grad(total, list(module.parameters()), allow_unused=True, materialize_grads=True)


def descend(
    state: State,
    part: str,
    gradients: Sequence[Tensor],
    figures: dict[str, Tensor],
    extras: Sequence[Tensor],
    process: Process,
) -> dict[str, Tensor]:
    """One Adam step of a part of the state ('critic') along the gradients by its parameters, averaged over ranks.

    figures and extras are averaged in the same exchange; returned are the figures and the gradient's norm. On a CPU
    a number that is not finite raises NonFiniteLoss here. To check on a GPU is to wait for it, so there the weights
    take it, and whoever reads or keeps the figures raises (`svgan.training.state.Sums`): the checkpoint before stays
    whole.
    """
    module: nn.Module = getattr(state, part)
    optimizer: torch.optim.Optimizer = getattr(state, f"{part}_optimizer")
    parameters = list(module.parameters())
    gradients = [gradient.contiguous() for gradient in gradients]  # fused Adam takes memory's order (docs/traps.md)
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
    """Move the EMA towards the generator: ema = decay ema + (1 - decay) motion."""
    torch._foreach_lerp_(list(state.ema.parameters()), list(state.motion.parameters()), 1 - decay)
