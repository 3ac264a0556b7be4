"""The training state: everything that changes during a run, saved and loaded as a whole.

Random numbers and the data's order are functions of (seed, step) (`svgan.torch_utils.rng`), so saving the step is
enough.
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
    """Sums of metrics since the last report, and for each the number of steps, because some steps lack some metrics.

    They are saved, so a run that is interrupted between reports averages the same numbers. Reading or saving a
    non-finite sum raises NonFiniteLoss.
    """

    totals: dict[str, Tensor] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)

    def add(self, figures: Mapping[str, Tensor]) -> None:
        for name, value in figures.items():
            self.totals[name] = self.totals.get(name, 0) + value
            self.counts[name] = self.counts.get(name, 0) + 1

    def means(self) -> dict[str, float]:
        return {name: total / self.counts[name] for name, total in self._numbers().items()}

    def to_json(self) -> dict[str, Any]:
        """Return float32 sums as numbers that JSON keeps exactly."""
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
        counts = (
            values["counts"] if "counts" in values else dict.fromkeys(totals, values["steps"])
        )  # written before 2026-11-22
        return cls(totals, {name: int(count) for name, count in counts.items()})


@dataclass(eq=False, kw_only=True)
class State(ABC):
    """The parts of a run's state that every system has.

    A system's state is a subclass: a dataclass with a field for each module, and `NAME_optimizer` for each trained one.
    `make_modules` makes them.

    motion: the motion generator. ema: its moving average, which is sampled. space: the coordinates of its codes.
    history: one dict of metrics per report, with 'step'. sums: metrics since the last report. meta: data about the
    codes ('domain' and 'latents' digests, 'fps'), which checkpoints keep for sampling.
    """

    trained: ClassVar[tuple[str, ...]] = ("motion", "critic")  # modules with an optimiser
    kept: ClassVar[tuple[str, ...]] = ()  # further modules that are saved, besides ema and space

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
        """Make the state at step 0. Weights depend on config.seed only, and are the same on every rank and device."""
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
        """Make the system's modules by the names of their fields, 'motion' among them; the EMA is a copy of it.

        Weights are drawn from torch's random state. Modules that the configuration does not need are left out.
        """

    @classmethod
    def make_optimizer(cls, name: str, module: nn.Module, config: Any) -> torch.optim.Adam:
        """Make the optimiser of the trained module of that name."""
        return make_adam(module, config)

    @property
    def device(self) -> torch.device:
        return self.space.mean.device

    def modules(self) -> dict[str, nn.Module]:
        """The modules that are saved, by name: networks, and others with buffers. Sampling reads 'ema' and 'space'."""
        found = {name: getattr(self, name) for name in (*self.trained, "ema", *self.kept, "space")}
        return {name: module for name, module in found.items() if module is not None}

    def optimizers(self) -> dict[str, tuple[nn.Module, torch.optim.Optimizer]]:
        """The optimisers by name, each with the module whose parameters it updates."""
        found = {f"{name}_optimizer": getattr(self, name) for name in self.trained}
        return {name: (module, getattr(self, name)) for name, module in found.items() if module is not None}

    def tensors(self) -> dict[str, Tensor]:
        """All tensors of modules and of the optimisers' averages by name; the state's own, not copies."""
        modules = self.modules()
        named = {f"{name}.{key}": t for name, module in modules.items() for key, t in module.state_dict().items()}
        for name, (module, optimizer) in self.optimizers().items():
            for parameter_name, parameter in module.named_parameters():
                for key, tensor in optimizer.state[parameter].items():
                    named[f"{name}.{parameter_name}.{key}"] = tensor
        return named

    def continues(self, config: RunConfig) -> None:
        """Use `config` for the rest of the run. Only `steps` may differ; raises UserError for any other field."""
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
    """Make an Adam whose averages exist from the start, so that a fresh state has all tensors of a checkpoint.

    beta1: overrides the run's.
    """
    betas = (config.beta1 if beta1 is None else beta1, config.beta2)
    real = all(p.device.type != "meta" for p in module.parameters())  # on the meta device only sizes matter
    optimizer = torch.optim.Adam(module.parameters(), lr=config.lr, betas=betas, eps=eps, fused=real)
    for p in module.parameters():
        optimizer.state[p] = {
            "step": torch.zeros((), dtype=torch.float32, device=p.device),
            "exp_avg": torch.zeros_like(p),
            "exp_avg_sq": torch.zeros_like(p),
        }
    return optimizer
