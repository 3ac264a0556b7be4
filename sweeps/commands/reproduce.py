"""`python -m sweeps reproduce NAME:NUMBER`: run a finished trial again, without Ray, and compare its figures.

Training is that of the workers (`sweeps.trial.training`). Reports stay in memory instead of going to Ray and MLflow.
"""

from __future__ import annotations

import argparse
import ast
import dataclasses
import math
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from svgan.errors import UserError
from svgan.metrics.names import ITERATIONS_PER_SECOND, LATENT_FD
from sweeps.commands import find_study
from sweeps.storage.metric_names import BEST_STEP, LATENT_FD_BEST, STEPS_DONE
from sweeps.storage.tag_names import OUTCOME

if TYPE_CHECKING:
    import torch
    from mlflow.entities import Run
    from rich.table import Table

    from svgan.training.state import State
    from sweeps.storage.plan import Plan
    from sweeps.tracking.client import Tracking

HELP = "run a finished trial again and compare its figures"
ABOUT = """Run a finished trial again from its configuration in MLflow, in this process and without Ray, and compare its
metrics at every report, and its FVD, with the logged ones.

  python -m sweeps reproduce gap-1:3
  python -m sweeps reproduce gap-1:3 --anyway       although code, codes or domain have changed

First it compares the code's digest and commit, the digests of codes and domain, and the seed. It prints a line for each
difference, and stops unless --anyway is given. A trial of one worker on a CPU like this one is equal in every bit; for
others it prints the largest relative difference. Exit code 0: equal, 1: different, 2: not run.
Cost: the trial's own training and FVD, in one process. Nothing is logged.
"""
# Figures of the machine or of the report itself, not of the model.
NOT_COMPARED = (ITERATIONS_PER_SECOND, STEPS_DONE, "step")

Points = dict[str, dict[int, float]]  # metric -> step -> value


def flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("trial", metavar="NAME:NUMBER", help="a finished trial")
    parser.add_argument("--anyway", action="store_true", help="run it although something has changed")
    find_study.add_flags(parser)


def run(asked: argparse.Namespace) -> int:
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # as Ray's workers have it; numpy, not imported yet, takes it over
    from rich.console import Console

    from svgan.reports.progress import Stages, bars

    plan = find_study.find_plan(asked, asked.trial.partition(":")[0])
    tracking = find_study.open_tracking(plan)
    logged = find_study.trial_run(tracking, asked.trial)
    if logged.data.tags.get(OUTCOME) != "finished":
        raise UserError(f"{asked.trial}: it did not finish, so it has no figures to come back to; give one that did")
    config = logged_config(logged)
    differences = list(mismatches(plan, logged))
    for difference in differences:
        print(difference)
    if differences and not asked.anyway:
        raise UserError(f"{asked.trial}: {len(differences)} things are not as they were; mend them or give --anyway")
    console = Console(highlight=False)
    with bars(console) as progress:
        again = repeat_all(plan, config, int(logged.data.params.get("seeds", "1")), Stages(progress))
    before = logged_points(tracking, logged, again)
    console.print(comparison(before, again))
    equal = all(same(before[key].get(step), value) for key in again for step, value in again[key].items())
    console.print(verdict(asked.trial, plan, before, again, equal), markup=False, soft_wrap=True)
    return 0 if equal else 1


def logged_config(run: Run) -> dict[str, Any]:
    """The trial's configuration, parsed from its parameters, which MLflow stores as text."""
    from svgan.training.registry import config_class, read_config

    known = {field.name for field in dataclasses.fields(config_class(run.data.params.get("system")))} | {"system"}
    return read_config({key: _value(text) for key, text in run.data.params.items() if key in known}).to_json()


def _value(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def mismatches(plan: Plan, run: Run) -> Iterator[str]:
    """One line for each thing that the figures depend on and that differs here."""
    from svgan.images.domain import Domain
    from svgan.latents.manifest import read_manifest
    from sweeps.storage import provenance

    then, here = run.data.tags, provenance.code_tags()
    if then.get("package") != here["package"]:
        yield f"code: its package digest was {then.get('package')}, here it is {here['package']}"
        if then.get("commit") != here.get("commit"):
            yield f"commit: it was run from {then.get('commit', 'none')}, here is {here.get('commit', 'none')}"
    for name, digest in (
        ("latents", lambda: read_manifest(plan.data.latents).digest),
        ("domain", lambda: Domain.load(plan.data.domain).digest),
        *([("pictures", lambda: Domain.load(plan.data.pictures).digest)] if plan.data.pictures else []),
    ):
        try:
            found = digest()
        except UserError as error:
            raise UserError(f"{plan.name}: its {name} cannot be read, so it cannot be run again: {error}") from None
        if then.get(name) != found:
            yield f"{name}: the digest was {then.get(name)}, that of {getattr(plan.data, name)} is {found}"
    if run.data.params.get("seed") != str(plan.search.seed):
        yield f"seed: it was trained with {run.data.params.get('seed')}, its study says {plan.search.seed}"
    if plan.compute.gpus_per_worker and not _gpu():
        yield "device: it was trained on a GPU, here is none"


def _gpu() -> bool:
    import torch

    return torch.cuda.is_available()


def repeat_all(plan: Plan, config: dict[str, Any], seeds: int, tell: Callable[[str, int, int], None]) -> Points:
    """Run the trial again. With several seeds, latent_fd and FVD are compared seed by seed, as they are logged."""
    from sweeps.trial.artifacts import figures_of

    if seeds == 1:
        return repeat(plan, config, tell)
    found: Points = {}
    for seed in range(config["seed"], config["seed"] + seeds):
        own = repeat(plan, config | {"seed": seed}, lambda stage, *far, seed=seed: tell(f"seed {seed}: {stage}", *far))
        found |= {f"{name}/seed-{seed}": own[name] for name in (LATENT_FD, *figures_of(plan)) if name in own}
    return found


def repeat(plan: Plan, config: dict[str, Any], tell: Callable[[str, int, int], None]) -> Points:
    """Train and score as the trial did; return every figure by metric and step."""
    import torch

    from svgan.sampling.sampler import Sampler
    from svgan.torch_utils.device import pick_device
    from sweeps.trial.artifacts import score
    from sweeps.trial.training import TrialTraining, figures_so_far

    torch.set_num_threads(max(1, int(plan.compute.cpus_per_worker)))
    device = pick_device("auto" if plan.compute.gpus_per_worker else "cpu")
    training = TrialTraining.from_config(plan, config, device)
    with tempfile.TemporaryDirectory(prefix="svgan-again-") as folder:
        memory = MemoryReporter(Path(folder))
        state = training.train(memory, iteration=_with_bar(training.run.steps, tell))
        best = int(figures_so_far(state.history)[BEST_STEP])
        if plan.judging.clips:
            sampler = Sampler.load(memory.best, device)
            figures = score(sampler, training.material, plan, tell)
            memory.points |= {name: {best: value} for name, value in figures.items()}
    return memory.points


def _with_bar(steps: int, tell: Callable[[str, int, int], None]) -> Callable[..., dict[str, torch.Tensor]]:
    """The training iteration with a progress bar."""
    from svgan.training import registry

    def iterate(state: State, *others: Any) -> dict[str, torch.Tensor]:
        tell("training", state.step, steps)
        return registry.iterate(state, *others)

    return iterate


class MemoryReporter:
    """A reporter that keeps every figure, and the best generator so far as a trial keeps it."""

    def __init__(self, scratch: Path) -> None:
        self.scratch, self.best = scratch, scratch / "best"
        self.points: Points = {}

    def report(self, step: int, metrics: dict[str, float], state: State) -> None:
        from sweeps.trial.training import figures_so_far, save_with_best

        save_with_best(state, self.scratch / "state", self.best)
        so_far = figures_so_far(state.history)
        for name, value in {**metrics, LATENT_FD_BEST: so_far[LATENT_FD_BEST]}.items():
            if name not in NOT_COMPARED:
                self.points.setdefault(name, {})[step] = float(value)


def logged_points(tracking: Tracking, run: Run, names: Mapping[str, Any]) -> Points:
    """The points that MLflow has of these metrics; {} for a metric that it does not have."""
    client, known = tracking.client, run.data.metrics
    return {
        name: {p.step: p.value for p in client.get_metric_history(run.info.run_id, name)} if name in known else {}
        for name in names
    }


def same(one: float | None, other: float) -> bool:
    """Whether two values are equal in every bit. Two NaNs are equal."""
    return one is not None and (one == other or (math.isnan(one) and math.isnan(other)))


def apart(one: float | None, other: float) -> float:
    """The relative difference; infinite if a value is missing or NaN."""
    if one is None or math.isnan(one) != math.isnan(other):
        return math.inf
    return 0.0 if same(one, other) else abs(one - other) / max(abs(one), abs(other))


def comparison(before: Points, again: Points) -> Table:
    """One row per figure: the number of equal reports, and the largest relative difference with its step."""
    from rich.table import Table

    table = Table("figure", box=None, pad_edge=False)
    for heading in ("reports", "equal", "largest relative\ndifference", "at step"):
        table.add_column(heading, justify="right")
    for name, points in again.items():
        gaps = {step: apart(before[name].get(step), value) for step, value in points.items()}
        equal = sum(same(before[name].get(step), value) for step, value in points.items())
        worst = max(gaps, key=lambda step: gaps[step])
        shown = ("", "") if equal == len(points) else (_gap(gaps[worst]), str(worst))
        table.add_row(name, str(len(points)), str(equal), *shown)
    return table


def _gap(value: float) -> str:
    return "not logged" if math.isinf(value) else f"{value:.1e}"


def verdict(trial: str, plan: Plan, before: Points, again: Points, equal: bool) -> str:
    count = sum(map(len, again.values()))
    if equal:
        return f"{trial}: reproduced; all {count} figures are equal in every bit"
    gaps = [apart(before[name].get(step), value) for name in again for step, value in again[name].items()]
    off: Sequence[float] = [gap for gap in gaps if gap > 0]
    why = f" (it ran on {plan.compute.workers} workers, this on one)" if plan.compute.workers > 1 else ""
    return f"{trial}: NOT equal; {len(off)} of {count} figures differ, by up to {_gap(max(off))}{why}"
