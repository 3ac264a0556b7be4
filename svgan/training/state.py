"""Everything that changes while a run trains, in one bundle that is saved and loaded whole.

Randomness and the data's order are functions of (seed, step) (`svgan.torch_utils.rng`), so the step stands for both.
"""

from __future__ import annotations

import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from svgan.errors import NonFiniteLoss, UserError
from svgan.latents.spaces import Space
from svgan.motion.base import Motion
from svgan.training.config import RunConfig


@dataclass
class Sums:
    """Figures summed since the last report, and each over how many steps, for not every step has all of them: a run
    that is cut between reports averages the same numbers as one that is not. Read or kept, a sum that is no finite
    number raises NonFiniteLoss."""

    totals: dict[str, Tensor] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)

    def add(self, figures: Mapping[str, Tensor]) -> None:
        for name, value in figures.items():
            self.totals[name] = self.totals.get(name, 0) + value
            self.counts[name] = self.counts.get(name, 0) + 1

    def means(self) -> dict[str, float]:
        return {name: total / self.counts[name] for name, total in self._numbers().items()}

    def to_json(self) -> dict[str, Any]:
        """float32 sums as numbers that JSON keeps exactly."""
        return {"totals": self._numbers(), "counts": self.counts}

    def _numbers(self) -> dict[str, float]:
        numbers = {name: float(total) for name, total in self.totals.items()}
        for name, number in numbers.items():
            if not math.isfinite(number):
                raise NonFiniteLoss(f"{name} is {number} after the last report; the checkpoint of that step is whole")
        return numbers

    @classmethod
    def from_json(cls, values: Mapping[str, Any], device: torch.device | str) -> Sums:
        totals = {name: torch.tensor(value, device=device) for name, value in values["totals"].items()}
        counts = values["counts"] if "counts" in values else dict.fromkeys(totals, values["steps"])  # before 2026-11-22
        return cls(totals, {name: int(count) for name, count in counts.items()})


@dataclass(eq=False, kw_only=True)
class State(ABC):
    """A run at one step, of any system: what all of them have. A system's own state is a subclass: a dataclass with a
    field for each of its modules, and `NAME_optimizer` for each that is trained, which says in `make_modules` what they
    are.

    motion: the generator of motion; ema: its moving average, which samples; space: the coordinates of its codes.
    history: one dict of figures per report, with 'step'. sums: of the figures since the last report.
    meta: what the codes are ('domain' and 'latents' digests, 'fps'), carried into checkpoints for sampling.
    """

    trained: ClassVar[tuple[str, ...]] = ("motion", "critic")  # the modules that have an optimiser
    kept: ClassVar[tuple[str, ...]] = ()  # the other modules that are saved, beside ema and space

    config: RunConfig
    space: Space
    motion: Motion
    ema: Motion
    step: int = 0
    history: list[dict[str, float]] = field(default_factory=list)
    sums: Sums = field(default_factory=Sums)
    meta: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def build(
        cls, config: Any, space: Space, meta: Mapping[str, Any] | None = None, device: torch.device | str = "cpu"
    ) -> Self:
        """Step 0: weights drawn from config.seed alone, the same on every rank and device."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            modules = cls.make_modules(config, space)
        ema = copy.deepcopy(modules["motion"]).requires_grad_(False).eval()
        parts: dict[str, Any] = {name: module.to(device) for name, module in {**modules, "ema": ema}.items()}
        for name in cls.trained:
            if name in parts:
                parts[f"{name}_optimizer"] = cls.make_optimizer(name, parts[name], config)
        return cls(config=config, space=copy.deepcopy(space).to(device), meta=dict(meta or {}), **parts)

    @classmethod
    @abstractmethod
    def make_modules(cls, config: Any, space: Space) -> dict[str, nn.Module]:
        """The system's modules by the names of their fields, 'motion' among them, with weights drawn from torch's
        random state; the EMA is made from it. One that the configuration does without is left out."""

    @classmethod
    def make_optimizer(cls, name: str, module: nn.Module, config: Any) -> torch.optim.Adam:
        """The optimiser of the trained module of that name."""
        return make_adam(module, config)

    @property
    def device(self) -> torch.device:
        return self.space.mean.device

    def modules(self) -> dict[str, nn.Module]:
        """What is saved, by name: networks, and what else has buffers. 'ema' and 'space' are what sampling reads."""
        found = {name: getattr(self, name) for name in (*self.trained, "ema", *self.kept, "space")}
        return {name: module for name, module in found.items() if module is not None}

    def optimizers(self) -> dict[str, tuple[nn.Module, torch.optim.Optimizer]]:
        """Each optimiser by name, with the module whose parameters it moves."""
        found = {f"{name}_optimizer": getattr(self, name) for name in self.trained}
        return {name: (module, getattr(self, name)) for name, module in found.items() if module is not None}

    def tensors(self) -> dict[str, Tensor]:
        """Every tensor by name, the state's own (not copies): of the modules, and of the optimisers' averages."""
        modules = self.modules()
        named = {f"{name}.{key}": t for name, module in modules.items() for key, t in module.state_dict().items()}
        for name, (module, optimizer) in self.optimizers().items():
            for parameter_name, parameter in module.named_parameters():
                for key, tensor in optimizer.state[parameter].items():
                    named[f"{name}.{parameter_name}.{key}"] = tensor
        return named

    def continues(self, config: RunConfig) -> None:
        """Take `config` for the rest of the run; only `steps` may differ. Raises UserError for any other field."""
        ours, theirs = self.config.to_json(), config.to_json()
        changed = [
            f"{name} (the run to be resumed has {ours.get(name)}, asked for is {theirs.get(name)})"
            for name in ours | theirs
            if name != "steps" and ours.get(name) != theirs.get(name)
        ]
        if changed:
            raise UserError(f"{', '.join(changed)}: use the run's own configuration, or another folder")
        self.config = replace(self.config, steps=config.steps)


def make_adam(
    module: nn.Module, config: RunConfig, *, beta1: float | None = None, eps: float = 1e-8
) -> torch.optim.Adam:
    """Adam whose averages exist from the start, so that a fresh state has every tensor a checkpoint has. beta1: another
    one than the run's."""
    betas = (config.beta1 if beta1 is None else beta1, config.beta2)
    real = all(p.device.type != "meta" for p in module.parameters())  # else only sizes are asked for
    optimizer = torch.optim.Adam(module.parameters(), lr=config.lr, betas=betas, eps=eps, fused=real)
    for p in module.parameters():
        optimizer.state[p] = {
            "step": torch.zeros((), dtype=torch.float32, device=p.device),
            "exp_avg": torch.zeros_like(p),
            "exp_avg_sq": torch.zeros_like(p),
        }
    return optimizer
