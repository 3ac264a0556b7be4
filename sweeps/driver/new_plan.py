"""The plan of a new study, from its flags, or of a study that is resumed."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from svgan.errors import UserError
from svgan.io.storage import exists, join
from sweeps.driver.definition import Study
from sweeps.driver.flags import REPLACEABLE, Flags, judged_on
from sweeps.storage import environment
from sweeps.storage.paths import absolute, fresh_name, is_remote, study_folder
from sweeps.storage.plan import PLAN_FILE, Plan
from sweeps.storage.plan_parts import PATIENCE_MINUTES, Compute, Data, Judging, Output, Search

if TYPE_CHECKING:
    from svgan.images.domain import Domain


def fresh(study: Study, asked: Flags) -> Plan:
    """The plan of a new study from its flags, with absolute places and digests of what figures depend on."""
    from svgan.images.domain import Domain

    grid = asked_grid(study, asked.grid)
    points = asked_points(study, asked.enqueue, grid)
    study = study.along(grid) if grid else study
    search = decided_search(study, asked.search, grid, points)
    output, name = decided_output(asked.output, asked.name or fresh_name(study.name))
    domain = Domain.load(asked.data.domain or study.domain)
    pictures = Domain.load(asked.data.pictures) if asked.data.pictures else None
    data = dataclasses.replace(
        asked.data,
        latents=absolute(asked.data.latents or domain.latents_uri),
        domain=_place(domain),
        pictures=_place(pictures) if pictures else "",
    )
    compute = decided_compute(asked.compute, search.trials)
    judging = decided_judging(asked.judging, gpu=bool(compute.gpus_per_worker))
    model = study.model or f"svgan-{(pictures or domain).folder.name.replace('_', '-')}"
    return Plan(
        study=study.name,
        name=name,
        search=search,
        data=data,
        compute=compute,
        judging=judging,
        output=dataclasses.replace(output, model=model),
        digests=digests(data, judging, domain, pictures),
    )


def decided_search(
    study: Study, asked: Search, grid: dict[str, list[Any]], points: Sequence[dict[str, Any]] = ()
) -> Search:
    """What to search. study: as an ablation along the grid, if there is one."""
    trials, controls = asked.trials, len(study.controls)
    if trials is None:
        trials = controls if grid else study.trials + len(points)
    elif not grid and study.trials == controls:
        controls = min(trials, controls)
    return dataclasses.replace(
        asked,
        trials=trials,
        controls=controls,
        enqueued=tuple(points),
        warm_start=absolute(asked.warm_start) if "/" in asked.warm_start else asked.warm_start,
        grid=grid,
        rungs=decided_rungs(study, asked),
        objectives=tuple(study.objectives if asked.objectives is None else asked.objectives),
    )


def decided_rungs(study: Study, asked: Search) -> tuple[int, ...]:
    """The steps at which trials may be pruned. Hyperband's begin at the first of the study's."""
    from sweeps.search.pruners import hyperband_rungs

    every = max(1, asked.steps // study.reports)
    rungs = sorted({max(1, round(rung * study.reports)) * every for rung in study.rungs})
    if asked.pruner == "none" or not rungs:
        return ()
    return hyperband_rungs(rungs[0], asked.steps, asked.reduction) if asked.pruner == "hyperband" else tuple(rungs)


def decided_output(asked: Output, name: str) -> tuple[Output, str]:
    """Where things are kept, as absolute places, with the study's name. Raises UserError if a study of that name
    exists.
    """
    storage = absolute(asked.storage)
    folder = study_folder(storage, name)
    kept = (str(folder), *((join(storage, name),) if is_remote(storage) else ()))
    for place in kept:
        if exists(join(place, PLAN_FILE)):
            raise UserError(f"--name {name}: this study exists in {place}; use --resume {name}, or choose another name")
    return dataclasses.replace(asked, storage=storage, folder=str(folder), tracking=absolute(asked.tracking)), name


def decided_compute(asked: Compute, trials: int) -> Compute:
    """CPUs, GPUs and concurrency as asked, else as this machine or cluster allows."""
    from sweeps.ray_runtime import resources

    there, gpus = resources.detect(), asked.gpus_per_worker
    if gpus is None:
        gpus = resources.gpu_share(there, asked.workers, asked.concurrency)
    most = environment.default("concurrency", max(1, trials))
    concurrency = asked.concurrency or resources.fitting_concurrency(
        there, workers=asked.workers, cpus=1, gpus=gpus, trials=min(max(1, trials), most)
    )
    budget = environment.default("max_gpu_hours") if asked.max_gpu_hours is None else asked.max_gpu_hours
    patience = PATIENCE_MINUTES if asked.patience is None else asked.patience
    return dataclasses.replace(
        asked, gpus_per_worker=gpus, concurrency=concurrency, max_gpu_hours=budget, patience=patience
    )


def decided_judging(asked: Judging, gpu: bool) -> Judging:
    from svgan.metrics.protocol import usual_precision

    return dataclasses.replace(asked, precision=usual_precision("cuda" if gpu else "cpu"), **judged_on(asked, gpu))


def digests(data: Data, judging: Judging, domain: Domain, pictures: Domain | None) -> tuple[tuple[str, str], ...]:
    """The digests, by name, of what the figures depend on."""
    from svgan.latents.manifest import read_manifest
    from sweeps.storage import provenance
    from sweeps.trial import artifacts

    found = {
        "domain": domain.digest,
        **({"pictures": pictures.digest} if pictures else {}),
        "latents": read_manifest(data.latents).digest,
        **(artifacts.protocols(judging.clips, judging.precision) if judging.clips > 1 else {}),
        **provenance.code_tags(),
    }
    return tuple(sorted(found.items()))


def _place(domain: Domain) -> str:
    """The name or path by which every node finds a domain."""
    from svgan.images.domain import DEFAULT

    return "default" if domain.folder == DEFAULT else absolute(str(domain.folder))


def asked_grid(study: Study, entries: Sequence[str] | None) -> dict[str, list[Any]]:
    """The grid that --grid asks for; {} without it."""
    from sweeps.search.grid import checked, parse

    if entries is None:
        return {}
    if not entries and not study.grid:
        raise UserError("--grid: this study has none of its own; give FIELD=VALUE,VALUE,... behind it")
    return parse(entries, study.recipe) if entries else checked(study.grid, study.recipe)


def asked_points(study: Study, words: Sequence[str] | None, grid: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    """The points that --enqueue asks for; [] without it."""
    from sweeps.search.points import check, parse

    if words is None:
        return []
    if grid:
        raise UserError("--enqueue: a grid has points of its own; add the values to --grid")
    points = parse(words)
    check(study.space, points)
    return points


def grown(study: Study, plan: Plan, trials: int | None, points: Sequence[dict[str, Any]]) -> Plan:
    """The plan with more trials, and with points that it does not have yet. Raises UserError for fewer trials.

    trials: None for as many more as there are new points.
    """
    search = plan.search
    added = [point for point in points if point not in search.enqueued]
    least = search.trials + len(added)
    if trials is not None and search.grid and trials != search.trials:
        raise UserError(f"--trials {trials}: the grid has {search.trials} points, a trial each; start another --grid")
    if trials is not None and trials < least:
        more = f" and {len(added)} more points" if added else ""
        raise UserError(f"--trials {trials}: this study has {search.trials} trials{more}; ask for {least} or more")
    enqueued = (*search.enqueued, *added)
    proposed = (trials or least) - search.controls - len(enqueued)
    if proposed and (trials or least) > search.trials and study.trials == len(study.controls):
        raise UserError(
            f"--trials {trials}: every trial of this study is given by its file, so none can be proposed; "
            "start it anew under another --name"
        )
    return plan.with_fields(trials=trials or least, enqueued=enqueued)


def resumed(study: Study, asked: Flags) -> Plan:
    """The plan with which the study was started. Beside --resume, only --storage may be given, flags that replace what
    was, and what lets the study grow.
    """
    asked.check_resumable(study)
    assert asked.resume
    plan = Plan.find(absolute(asked.output.storage), asked.resume)
    if plan.study != study.name:
        raise UserError(f"--resume {asked.resume}: that is a study of sweeps/{plan.study}.py; resume it with that file")
    if not Path(plan.output.folder, PLAN_FILE).exists():  # begun on another machine
        plan.save()
    given = vars(asked.compute) | vars(asked.output)
    plan = plan.with_fields(**{name: given[name] for name in REPLACEABLE if given[name]})
    return grown(study, plan, asked.search.trials, asked_points(study, asked.enqueue, plan.search.grid))
