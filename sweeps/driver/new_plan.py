"""From flags to the plan of a new study, or of one that is resumed."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from svgan.errors import UserError
from sweeps.driver.definition import Study
from sweeps.driver.flags import judged_on
from sweeps.storage import environment
from sweeps.storage.paths import absolute, default_tracking, fresh_name, study_folder
from sweeps.storage.plan import PLAN_FILE, Plan, check_asked

if TYPE_CHECKING:
    from svgan.images.domain import Domain


def fresh(study: Study, asked: argparse.Namespace) -> Plan:
    """The plan of a new study from its flags, everything made absolute, with digests of what figures depend on."""
    from svgan.images.domain import Domain
    from svgan.latents.manifest import read_manifest
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
