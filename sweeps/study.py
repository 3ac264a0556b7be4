"""What a study is, and how one runs from flags to a promoted model.

A study file is short: a header with command, cost and the number to expect, a space, a `Study`, and
`main(STUDY)`. Everything that can be refused is refused before Ray starts.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import logging
import os
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from svgan.errors import UserError
from sweeps.ray_runtime import job_submission, log_capture
from sweeps.ray_runtime.fork_server import forkserver
from sweeps.ray_runtime.session import cluster_joined, keep_secrets, ray_started
from sweeps.reports.variant_table import VARIANT, labels
from sweeps.storage import environment, stop_request, study_files
from sweeps.storage.plan import (
    PLAN_FILE,
    Plan,
    absolute,
    check_asked,
    default_tracking,
    fresh_name,
    judged_on,
    parser,
    resume_command,
    study_folder,
)
from sweeps.storage.usage import Spent

if TYPE_CHECKING:
    import optuna

    from svgan.images.domain import Domain
    from sweeps.driver.budget import Account
    from sweeps.promotion.registry import Promotion
    from sweeps.tracking.client import Tracking
    from sweeps.trial.controller import Loop

METRICS = ("latent_fd",)
LOG = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Study:
    """One question to a model, asked by a sweep.

    space: a module-level define-by-run function of an Optuna trial, or a dict of Optuna distributions, lists and
    constants; either gives overrides of the recipe. controls: points of it that run first and are never stopped; where
    all trials are, --trials may ask for the first of them alone.
    metric: what proposals and stops go by; lower is better. reports: figures per full trial. rungs: fractions of the
    steps at which all but the best 1/reduction are stopped. grid: the fields and values of `--grid` alone. objectives:
    two or more of latent_fd, fvd_short and fvd_long in place of the metric; stops still go by the metric. clips: behind
    each FVD; None: `plan.judged_on`'s. metrics: of `svgan.metrics.assess`, measured of finished trials. seconds: of a
    trial's training, in place of steps, where all are controls. seeds: of each trial.

    A point may name another `recipe`, `steps` of its own, and, for the tables, a `variant`.
    """

    name: str
    space: Callable[[optuna.Trial], dict[str, Any]] | Mapping[str, Any]
    recipe: str = "tiny"
    metric: str = "latent_fd"
    controls: Sequence[dict[str, Any]] = ()
    trials: int = 6
    steps: int = 1700
    clips: int | None = None
    domain: str = "default"
    reports: int = 8
    rungs: Sequence[float] = (0.25, 0.5)
    reduction: int = 3
    model: str | None = None
    grid: Mapping[str, Sequence[Any]] = dataclasses.field(default_factory=dict)
    objectives: Sequence[str] = ()
    metrics: Sequence[str] = ("fvd",)
    seconds: float | None = None
    seeds: int = 1

    def __post_init__(self) -> None:
        if self.metric not in METRICS:
            raise UserError(f"study {self.name}: metric {self.metric!r} is not reported; one of {', '.join(METRICS)}")
        if self.reduction < 2 or not all(0 < rung < 1 for rung in self.rungs):
            raise UserError(f"study {self.name}: rungs are fractions between 0 and 1, reduction is 2 or more")

    def along(self, grid: Mapping[str, Sequence[Any]]) -> Study:
        """This study as an ablation: each point of the grid a control, beside what a declarative space holds fixed."""
        from optuna.distributions import BaseDistribution

        from sweeps.search.grid import points

        space = {} if callable(self.space) else self.space
        fixed = {name: entry for name, entry in space.items() if not isinstance(entry, list | tuple | BaseDistribution)}
        choices = {name: list(values) for name, values in grid.items()}
        return dataclasses.replace(self, space=fixed | choices, controls=points(grid), rungs=())

    def first(self, count: int) -> Study:
        """This study with the first so many of its controls."""
        return dataclasses.replace(self, controls=self.controls[:count])

    def config(self, plan: Plan, params: dict[str, Any], number: int | None = None) -> dict[str, Any]:
        """The run that a proposal stands for, as JSON; as long as the plan says of that trial. Raises UserError for
        what the recipe refuses."""
        from svgan.training import recipes

        own = {"steps": plan.steps, "seed": plan.seed, **params}
        if number is not None and plan.lengths:
            own["steps"] = plan.length(number)
        own.pop(VARIANT, None)
        return recipes.make(own.pop("recipe", self.recipe), **own).to_json()


def main(study: Study, argv: Sequence[str] | None = None, *, loop: Loop | None = None) -> None:
    """A study file's entry: run it, print errors as one line, exit 2 on bad input, 3 when its budget is used up
    and 130 when interrupted. loop: as of `run`.

    On a cluster's head it runs as a Ray Job, and the exit code is the job's.
    """
    doc = sys.modules["__main__"].__doc__ or ""
    try:
        prepared()
        if job_submission.needed():
            sys.exit(submitted(study, list(sys.argv[1:] if argv is None else argv), doc))
        environment.settle()
        run(study, argv, doc=doc, loop=loop)
    except UserError as error:
        print(f"svgan: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
    except Spent as error:
        print(f"svgan: {error}", file=sys.stderr)
        sys.exit(3)


def prepared() -> None:
    """The environment that Ray, Tune and MLflow read when they are imported."""
    log_capture.settings()
    if "ray" not in sys.modules:
        os.environ.setdefault("RAY_AUTH_MODE", "token")  # afterwards it would come too late: docs/traps.md


def submitted(study: Study, arguments: list[str], doc: str) -> int:
    """Run the study as a Ray Job, its flags checked and its name chosen before; returns the job's exit code."""
    flags = flags_of(study, doc)
    asked = flags.parse_args(arguments)
    check_asked(vars(asked))
    script, name = Path(sys.modules["__main__"].__file__ or ""), asked.resume or asked.name
    if not name:
        name = fresh_name(study.name)
        arguments = [*arguments, "--name", name]
    return job_submission.submit(script, arguments, name)


def flags_of(study: Study, doc: str) -> argparse.ArgumentParser:
    return parser(
        study.name,
        doc,
        trials=study.trials,
        steps=study.steps,
        clips=study.clips,
        seconds=study.seconds,
        seeds=study.seeds,
    )


def run(
    study: Study, argv: Sequence[str] | None = None, *, doc: str = "", loop: Loop | None = None
) -> Promotion | None:
    """Run or resume a study; returns what was promoted. `loop` replaces the workers' training loop (tests)."""
    prepared()
    flags = flags_of(study, doc)
    asked = flags.parse_args(argv)
    with cluster_joined():
        plan = resumed(study, flags, asked) if asked.resume else fresh(study, asked)
        with forkserver():
            study = study.along(plan.grid) if plan.grid else study
            return _run(study.first(plan.controls), plan, loop)


def _run(study: Study, plan: Plan, loop: Loop | None) -> Promotion | None:
    from sweeps.driver import forecast
    from sweeps.driver.budget import Account
    from sweeps.driver.conclude import conclude
    from sweeps.driver.preflight import announce, preflight, prepare
    from sweeps.driver.step_timing import lengths
    from sweeps.ray_runtime import resources
    from sweeps.search import grid
    from sweeps.tracking.client import ROLE, SWEEP, Tracking
    from sweeps.tracking.trial_log import failures

    cleared = preflight(study, plan)
    prepare(plan, cleared.material)
    if plan.seconds and not plan.lengths:
        print("timing iterations of each trial's own ...", flush=True)
        plan = dataclasses.replace(plan, lengths=lengths(plan, cleared.runs[: plan.controls]))
    tracking = Tracking(plan)
    if not Path(plan.folder, PLAN_FILE).exists() and tracking.find(**{SWEEP: plan.name, ROLE: "study"}):
        raise UserError(
            f"--name {plan.name}: {plan.tracking} has a study of that name, begun elsewhere; choose another name, or "
            "resume it where its study.json is"
        )
    with stop_request.alone(plan), log_capture.quiet(Path(plan.folder, "sweep.log")) as log:
        stop_request.clear(plan)
        parent = tracking.parent()
        plan.save()
        tracking.client.log_artifact(parent, str(Path(plan.folder, PLAN_FILE)))
        LOG.info("preflight took %.2f s", cleared.seconds)
        print(announce(plan, cleared, forecast.told(plan, forecast.pace(plan, cleared, tracking)), log), flush=True)
        if plan.grid:
            print(grid.told(plan.grid), flush=True)
        status, account = "FAILED", Account(plan, cleared.used)
        try:
            slots = {resources.SLOT: plan.concurrency}
            with (
                ray_started(resources=slots, object_store_memory=256 * 2**20) as local,
                stop_request.interruptible(plan),
            ):
                record = search(study, plan, tracking, loop, local, account)
            promotion = conclude(plan, record)
            status = "FINISHED"
        except KeyboardInterrupt:
            status = "KILLED"
            print(f"\nstopped; go on with: {resume_command(plan)}", file=sys.stderr)
            raise
        except Spent:
            status = "KILLED"
            raise
        finally:
            shutil.rmtree(plan.scratch, ignore_errors=True)
            with contextlib.suppress(*failures()):
                tracking.close(status, account.figures())
    return promotion


def fresh(study: Study, asked: argparse.Namespace) -> Plan:
    """The plan of a new study from its flags, everything made absolute, with digests of what figures depend on."""
    from svgan.images.domain import Domain
    from svgan.latents.shards import read_manifest
    from svgan.metrics.protocol import usual_precision
    from sweeps.ray_runtime import resources
    from sweeps.storage import provenance
    from sweeps.trial import artifacts

    check_asked(vars(asked))
    grid = asked_grid(study, asked.grid)
    study = study.along(grid) if grid else study
    trials = asked.trials
    if trials is None:
        trials = len(study.controls) if grid else study.trials
    elif not grid and study.trials == len(study.controls):
        study = study.first(trials)
    name, storage = asked.name or fresh_name(study.name), absolute(asked.storage)
    folder = study_folder(storage, name)
    if Path(folder, PLAN_FILE).exists():
        raise UserError(f"--name {name}: this study exists in {folder}; use --resume {name}, or choose another name")
    domain = Domain.load(asked.domain or study.domain)
    pictures = Domain.load(asked.pictures) if asked.pictures else None
    latents = absolute(asked.latents or domain.latents_uri)
    there = resources.room()
    gpus = (
        resources.gpu_share(there, asked.workers, asked.concurrency)
        if asked.gpus_per_worker is None
        else asked.gpus_per_worker
    )
    most = environment.default("concurrency", max(1, trials))
    concurrency = asked.concurrency or resources.fitting_concurrency(
        there, workers=asked.workers, cpus=1, gpus=gpus, trials=min(max(1, trials), most)
    )
    budget = environment.default("max_gpu_hours") if asked.max_gpu_hours is None else asked.max_gpu_hours
    precision = usual_precision("cuda" if gpus else "cpu")
    clips, promotion_clips, promotion_seeds = judged_on(asked, bool(gpus))
    digests = {
        "domain": domain.digest,
        **({"pictures": pictures.digest} if pictures else {}),
        "latents": read_manifest(latents).digest,
        **(artifacts.protocols(clips, precision) if clips > 1 else {}),
        **provenance.code_tags(),
    }
    every = max(1, asked.steps // study.reports)
    return Plan(
        study=study.name,
        name=name,
        recipe=study.recipe,
        metric=study.metric,
        objective=f"{study.metric}_best",
        domain=_place(domain),
        controls=len(study.controls),
        trials=trials,
        steps=asked.steps,
        workers=asked.workers,
        cpus_per_worker=1,
        gpus_per_worker=gpus,
        concurrency=concurrency,
        latents=latents,
        storage=storage,
        folder=str(folder),
        tracking=absolute(asked.tracking) if asked.tracking else default_tracking(),
        experiment=asked.experiment,
        model=study.model or f"svgan-{(pictures or domain).folder.name.replace('_', '-')}",
        seed=asked.seed,
        clips=clips,
        precision=precision,
        reports=study.reports,
        rungs=tuple(sorted({max(1, round(rung * study.reports)) * every for rung in study.rungs})),
        reduction=study.reduction,
        patience=asked.patience,
        digests=tuple(sorted(digests.items())),
        optuna=asked.optuna,
        grid=grid,
        seeds=asked.seeds,
        promotion_clips=promotion_clips,
        promotion_seeds=promotion_seeds,
        max_gpu_hours=budget,
        objectives=tuple(study.objectives if asked.objectives is None else asked.objectives.split(",")),
        metrics=tuple(study.metrics),
        seconds=asked.seconds,
        pictures=_place(pictures) if pictures else "",
        footage=asked.footage,
    )


def _place(domain: Domain) -> str:
    """What every node finds it by."""
    from svgan.images.domain import DEFAULT

    return "default" if domain.folder == DEFAULT else absolute(str(domain.folder))


def asked_grid(study: Study, entries: Sequence[str] | None) -> dict[str, list[Any]]:
    """What --grid stands for; empty where it was not given."""
    from sweeps.search.grid import checked, parse

    if entries is None:
        return {}
    if not entries and not study.grid:
        raise UserError("--grid: this study has none of its own; give FIELD=VALUE,VALUE,... behind it")
    return parse(entries, study.recipe) if entries else checked(study.grid, study.recipe)


def resumed(study: Study, flags: argparse.ArgumentParser, asked: argparse.Namespace) -> Plan:
    """The plan that the study was started with. Only --storage and another budget may be given beside --resume."""
    for name, value in vars(asked).items():
        if name not in ("resume", "storage", "max_gpu_hours") and value != flags.get_default(name):
            raise UserError(f"--{name.replace('_', '-')}: a study's flags are remembered; leave it out with --resume")
    plan = Plan.load(study_folder(absolute(asked.storage), asked.resume))
    if plan.study != study.name:
        raise UserError(f"--resume {asked.resume}: that is a study of sweeps/{plan.study}.py; resume it with that file")
    return plan if asked.max_gpu_hours is None else dataclasses.replace(plan, max_gpu_hours=asked.max_gpu_hours)


def search(
    study: Study, plan: Plan, tracking: Tracking, loop: Loop | None, local: bool, account: Account
) -> optuna.Study:
    """Hand out trials until all have ended; returns Optuna's study. Raises Spent where the budget ends before."""
    from functools import partial

    from ray import tune

    from sweeps.driver.live_table import Board, Ledger
    from sweeps.driver.stall_limit import Patience, Reaper
    from sweeps.ray_runtime.resources import SLOT
    from sweeps.reports.trial_table import rows_of
    from sweeps.search.asha import Halving
    from sweeps.search.optuna_store import open_study, unfinished
    from sweeps.search.tune_searcher import OptunaSearcher
    from sweeps.tracking import relay
    from sweeps.tracking.trial_log import TrialLog
    from sweeps.trial.controller import DRIVER_RETRIES, run_trial, storage_arguments, train_loop, trial_folder

    keep_secrets()
    record = open_study(plan, controls=study.controls)

    def make(number: int, params: dict[str, Any]) -> dict[str, Any]:
        config = study.config(plan, params, number)
        TrialLog(plan, number).open(config | labels(params))
        return {"run": config, "plan": plan.to_json()}

    watch = stop_request.Watch(plan)
    searcher = OptunaSearcher(
        record,
        study.space,
        make,
        metric=plan.objective,
        trials=plan.trials,
        concurrency=plan.concurrency,
        stopping=watch,
        objectives=plan.told,
    )
    scheduler = Halving(metric=plan.objective, rungs=plan.rungs, reduction=plan.reduction)
    scheduler.recall(record.get_trials(deepcopy=False))
    if not searcher.left:
        return record
    ledger = Ledger(plan, watch, account)
    to_mlflow = None if local or not relay.of_one_machine(plan.tracking) else relay.start(plan)
    with Board(plan, rows_of(tracking.runs())) as board:
        tuner = tune.Tuner(
            tune.with_resources(partial(run_trial, loop=loop or train_loop), {SLOT: 1}),
            tune_config=tune.TuneConfig(
                search_alg=searcher,
                scheduler=scheduler,
                num_samples=searcher.left,
                trial_dirname_creator=trial_folder,
            ),
            run_config=tune.RunConfig(
                name=f"{plan.name}/tune",
                callbacks=[
                    account,
                    ledger,
                    board,
                    Reaper(),
                    Patience(limit=3600.0 if local else 86400.0),
                ],
                failure_config=tune.FailureConfig(max_failures=DRIVER_RETRIES),
                verbose=0,
                **storage_arguments(plan.storage),
            ),
        )
        try:
            tuner.fit()
        except UserError:
            raise
        except Exception as error:
            broken = study_files.trouble(plan.folder, error) or study_files.trouble(study_files.place(plan), error)
            if not broken:
                raise
            watch.stop(f"--storage {plan.storage}: cannot be written ({broken})")
        board.listen()
    del to_mlflow
    if watch.why:
        raise UserError(f"{watch.why}; when that is mended: {resume_command(plan)}")
    if searcher.new or unfinished(record.get_trials(deepcopy=False)):
        if account.spent:
            raise Spent(f"{account.line()}; go on with a larger one: {resume_command(plan)} --max-gpu-hours X")
        if ledger.died:
            number, reason = next(iter(ledger.died.items()))
            raise UserError(
                f"trial {number}: its process died {DRIVER_RETRIES + 1} times, at last with {reason}; when that is "
                f"mended: {resume_command(plan)}"
            )
        raise KeyboardInterrupt
    return record
