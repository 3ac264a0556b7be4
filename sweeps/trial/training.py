"""A trial's training, the same in Ray's workers (`worker.py`) and in the one process of `python -m sweeps
reproduce`.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from svgan.metrics.names import LATENT_FD
from svgan.runs.validation import latent_judge
from svgan.torch_utils.distributed import SINGLE, Process
from svgan.training import checkpoint, registry
from svgan.training.config import RunConfig
from svgan.training.data import BESIDE, Material
from svgan.training.loop import train
from svgan.training.registry import Iteration, Source, iterate
from svgan.training.reporter import Reporter
from svgan.training.state import State
from sweeps.storage.metric_names import BEST_STEP, LATENT_FD_BEST
from sweeps.storage.plan import Plan
from sweeps.trial.artifacts import export_generator


@dataclasses.dataclass(frozen=True)
class TrialTraining:
    """A trial's configuration and training data, on a device."""

    plan: Plan
    run: RunConfig
    material: Material
    source: Source
    device: torch.device
    report_every: int

    @classmethod
    def from_config(cls, plan: Plan, config: Mapping[str, Any], device: torch.device) -> TrialTraining:
        """config: of the run, as JSON. Raises UserError for codes that cannot be read or are of another domain."""
        run, material = registry.read_config(dict(config)), material_of(plan, device)
        every = max(1, run.steps // plan.search.reports)
        return cls(plan, run, material, registry.make_source(run, material, device), device, every)

    def train(
        self,
        reporter: Reporter,
        *,
        state: State | None = None,
        process: Process = SINGLE,
        iteration: Iteration = iterate,
    ) -> State:
        """Run the training loop with the trial's validation and interval of reports."""
        return train(
            self.run,
            self.source,
            state=state,
            meta=self.material.meta,
            reporter=reporter,
            process=process,
            evaluate=latent_judge(self.source, self.run.seed, self.material),
            report_every=self.report_every,
            device=self.device,
            iteration=iteration,
        )


def material_of(plan: Plan, device: torch.device | str) -> Material:
    """What a study's runs learn from, on that device."""
    videos = (BESIDE,) if plan.data.footage else ()
    return Material.open(
        plan.data.domain, plan.data.latents, device, pictures=plan.data.pictures or None, videos=videos
    )


def figures_so_far(history: list[dict[str, float]]) -> dict[str, float]:
    """The last step and its latent_fd, and the lowest latent_fd with its step."""
    best = min(history, key=lambda report: report[LATENT_FD])
    return {
        "step": int(history[-1]["step"]),
        LATENT_FD: history[-1][LATENT_FD],
        LATENT_FD_BEST: best[LATENT_FD],
        BEST_STEP: int(best["step"]),
    }


def running_minima(history: list[dict[str, float]]) -> list[tuple[int, float]]:
    """The lowest latent_fd so far at each report, as (step, value): a driver that missed reports learns them from it.

    Pairs and no dictionary, because Tune flattens dictionaries in results (docs/traps.md).
    """
    least = itertools.accumulate((report[LATENT_FD] for report in history), min)
    return [(int(report["step"]), value) for report, value in zip(history, least, strict=True)]


def save_with_best(state: State, folder: Path, best: Path) -> bool:
    """Save the state in `folder`; if its generator is the best so far, export it to `best` and return True."""
    checkpoint.save(state, folder)
    if figures_so_far(state.history)[BEST_STEP] != state.step:
        return False
    export_generator(folder, best)
    return True
