"""`python -m sweeps evaluate NAME:NUMBER` or `models:/...`: measure a logged model again, and by other metrics."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from svgan.errors import UserError, one_line
from svgan.metrics.names import LATENT_FD
from sweeps.commands import find_study, workers_flag
from sweeps.storage.tag_names import PROTOCOL_LONG, PROTOCOL_SHORT, SEED, STEP, SWEEP, TRIAL

if TYPE_CHECKING:
    from mlflow.entities import LoggedModel

    from svgan.metrics.protocol import Protocol
    from sweeps.storage.plan import Plan

HELP = "measure a logged model again, with intervals"
ABOUT = """Measure a logged model under named protocols, on its study's codes and domain, with 95 % intervals.

  python -m sweeps evaluate gap-1:1                                      the trial's best model, FVD short and long
  python -m sweeps evaluate models:/svgan-talking-face@champion --metrics fvd,kvd,loops
  python -m sweeps evaluate models:/svgan-talking-face/2 --protocol svg-long --clips 2048
  python -m sweeps evaluate gap-1:1 --against gap-1:0 --protocol svg-long      which is better, and how sure that is
  python -m sweeps evaluate gap-1:1 --clips 2048 --workers 16                  by 16 workers of a cluster, or cores

With the study's own number of clips and its precision, FVD equals the logged value in every digit on the machine that
logged it. The command says whether it does. `svgan evaluate --help` lists protocols and metrics. The last line is JSON.

--log adds the figures that the model does not have. Their names carry the protocol: fvd/PROTOCOL with the tag
protocol.PROTOCOL, or fvd_long/HASH if a study's own protocol has other counts. It also adds a page with clips and plots
to reports/ of the model's run; --report writes that page to a file. Cost: as svgan evaluate.
"""
# The tag of a protocol's hash on a logged model.
USUAL = {"svg-short": PROTOCOL_SHORT, "svg-long": PROTOCOL_LONG}


@dataclass(frozen=True)
class Logged:
    """A model in MLflow, and the plan of the study that made it."""

    plan: Plan
    model: LoggedModel

    @property
    def uri(self) -> str:
        return f"models:/{self.model.model_id}"


def flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help="NAME:NUMBER, a trial's best model, or models:/...")
    parser.add_argument(
        "--protocol", default=",".join(USUAL), metavar="NAMES", help="names, separated by commas [%(default)s]"
    )
    parser.add_argument("--metrics", default="fvd", metavar="NAMES", help="names, separated by commas [%(default)s]")
    parser.add_argument("--against", metavar="MODEL", help="another model, compared under the same protocols")
    parser.add_argument("--clips", type=int, metavar="N", help="generated clips [of svg-...: the study's]")
    workers_flag.add_flag(parser)
    parser.add_argument("--log", action="store_true", help="add the new figures to the model in MLflow")
    parser.add_argument("--report", type=Path, metavar="FILE.html", help="a page of the figures, with clips and plots")
    find_study.add_flags(parser)


def run(asked: argparse.Namespace) -> int | None:
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # as Ray's workers have it
    from svgan.reports.evaluation import as_json, assessment_tables
    from svgan.reports.html_page import write_page
    from svgan.reports.progress import Stages, bars, plain_console

    if workers_flag.as_job(asked):
        return workers_flag.submitted("evaluate")
    logged = find(asked, asked.model)
    other = find(asked, asked.against) if asked.against else None
    console = plain_console()
    with workers_flag.workers(asked), bars(console) as progress:
        told, page = measured(asked, logged, other, Stages(progress))
    for part in assessment_tables(told):
        console.print(part)
    for name, one in told["logged"].items():
        how = "equal in every digit" if one["equal"] else f"NOT equal: {told['figures'][name]['value']!r} now"
        console.print(f"{name}: {one['value']!r} was logged; {how}")
    if asked.log:
        console.print(f"logged to {logged.uri}: {', '.join(keep(logged, told)) or 'nothing new'}")
        console.print(f"logged to its run: {keep_page(logged, page)}")
    if asked.report:
        write_page(asked.report, page)
    print(as_json(told), flush=True)
    return None


def keep(logged: Logged, told: dict[str, Any]) -> list[str]:
    """Log the figures that the model and its run do not have under these protocols; return their names in MLflow."""
    import time

    from mlflow.entities import Metric

    model, client = logged.model, find_study.open_tracking(logged.plan).client
    had = {metric.key for metric in model.metrics or []}
    values = {logged_name(name, told["protocols"], model.tags): one["value"] for name, one in told["figures"].items()}
    new = {name: value for name, value in values.items() if value is not None and name not in had}
    at = int(time.time() * 1000)
    batch = [Metric(name, value, at, int(model.tags[STEP]), model_id=model.model_id) for name, value in new.items()]
    client.log_batch(str(model.source_run_id), metrics=batch)
    hashes = {f"protocol.{name}": one["hash"] for name, one in told["protocols"].items() if name not in USUAL}
    if hashes:
        client.set_logged_model_tags(model.model_id, hashes)
    return sorted(new)


def keep_page(logged: Logged, page: str) -> str:
    """Log a report page to the model's run, replacing an earlier one; return its name there."""
    from sweeps.tracking.client import of_seed

    tags = logged.model.tags
    step = f"step-{int(tags[STEP]):06d}"
    name = f"reports/{of_seed(step, tags[SEED]).replace('/', '-') if SEED in tags else step}.html"
    find_study.open_tracking(logged.plan).client.log_text(str(logged.model.source_run_id), page, name)
    return name


def logged_name(name: str, protocols: dict[str, Any], tags: Mapping[str, str]) -> str:
    """A figure's name in MLflow. If a study's protocol was changed, the name carries the protocol's hash."""
    for protocol, tag in USUAL.items():
        kind = "_" + protocol.removeprefix("svg-")
        if protocol in protocols and name.removesuffix("_original").endswith(kind):
            found = protocols[protocol]["hash"]
            return name if tags.get(tag) == found else f"{name}/{found}"
    return name


def find(asked: argparse.Namespace, what: str) -> Logged:
    """Find the model that `what` names. Raises UserError if there is none."""
    from sweeps.tracking.client import sweep_models

    if what.startswith("models:/"):
        model = registered(asked, what)
        if SWEEP not in model.tags:
            raise UserError(f"{what}: no study of this project logged it; give a model that one did, or NAME:NUMBER")
        return Logged(find_study.find_plan(asked, model.tags[SWEEP]), model)
    plan = find_study.find_plan(asked, what.partition(":")[0])
    tracking = find_study.open_tracking(plan)
    find_study.trial_run(tracking, what)
    models = sweep_models(tracking.client, tracking.experiment, plan.name, int(what.partition(":")[2]))
    if not models:
        raise UserError(f"{what}: this trial logged no model; give one that reached a report")
    return Logged(plan, min(models, key=_rank))


def _rank(model: LoggedModel) -> tuple[float, float]:
    """A sort key: FVD long if the model has it, else latent_fd."""
    from sweeps.promotion.registry import FIGURE, figure

    ranks = (figure(model, name) for name in (FIGURE, LATENT_FD))
    first, second = (float("inf") if value is None else value for value in ranks)
    return first, second


def registered(asked: argparse.Namespace, uri: str) -> LoggedModel:
    """The logged model behind models:/NAME@ALIAS, models:/NAME/VERSION or models:/ID."""
    from mlflow.exceptions import MlflowException

    client, _ = find_study.known_experiment(find_study.tracking_uri(asked), asked.experiment or find_study.EXPERIMENT)
    name = uri.removeprefix("models:/")
    try:
        version = None
        if "@" in name:
            version = client.get_model_version_by_alias(*name.split("@", 1))
        elif "/" in name:
            version = client.get_model_version(*name.split("/", 1))
        return client.get_logged_model(name if version is None else str(version.source).removeprefix("models:/"))
    except MlflowException as error:
        raise UserError(f"{uri}: not in MLflow ({one_line(error, 120)}); see: python -m sweeps status") from None


def measured(
    asked: argparse.Namespace, logged: Logged, other: Logged | None, progress: Any
) -> tuple[dict[str, Any], str]:
    """Evaluate the model on the study's codes and domain, beside its logged figures; return the result and the page.

    The page is '' unless asked for. Uses as many threads as a worker has: bfloat16 sums, and FVD with them, depend on
    their number (docs/traps.md).
    """
    import torch

    from svgan.reports.evaluation import assess
    from svgan.sampling.judged_pictures import prepare_for_judges
    from svgan.sampling.sampler import Sampler
    from svgan.torch_utils.device import pick_device
    from sweeps.promotion.model_store import downloaded
    from sweeps.trial.training import material_of

    plan = logged.plan
    torch.set_num_threads(max(1, int(plan.compute.cpus_per_worker)))
    device = pick_device("auto" if plan.compute.gpus_per_worker else "cpu")
    material = material_of(plan, device)
    domain, latents = material.domain, material.latents
    here = {"domain": domain.digest, "latents": latents.digest}
    here |= {"pictures": material.pictures.digest} if material.pictures else {}
    if other is not None and any(other.model.tags.get(k) != logged.model.tags.get(k) for k in ("domain", "pictures")):
        raise UserError(f"--against {asked.against}: of another domain than {asked.model}; no figure compares those")
    protocols = asked_protocols(asked, plan)
    known = [p for p in protocols if logged.model.tags.get(USUAL.get(p.name, "")) == p.hash]
    pool = workers_flag.feature_pool(asked, plan, domain)
    samplers = []
    for one in filter(None, (logged, other)):
        with downloaded(one.plan.output.tracking, one.uri) as folder:
            samplers.append(prepare_for_judges(Sampler.load(folder, device), material))
    told = assess(
        samplers[0],
        samplers[1] if other is not None else None,
        domain,
        latents,
        protocols,
        asked.metrics.split(","),
        seed=plan.search.seed,
        progress=progress,
        frames=material.recorded,
        strict=len(known) < len(protocols),
        spread=pool.extractor if pool else None,
    )
    same = all(logged.model.tags.get(name) == digest for name, digest in here.items())
    told["logged"] = compared(logged.model, known, told["figures"]) if same else {}
    about = {"model": logged.uri, "study": plan.name, **here, "seed": plan.search.seed}
    page = ""
    if asked.log or asked.report:
        from svgan.reports.html_page import model_page

        tags = logged.model.tags
        title = f"{plan.name}, trial {tags[TRIAL]}, step {tags[STEP]}"
        more = {
            "recipe": plan.search.recipe,
            **{f"logged {name}": one["value"] for name, one in told["logged"].items()},
        }
        page = model_page(
            title, about | more, told, samplers[0], domain, latents, seed=plan.search.seed, progress=progress
        )
    return about | told, page


def asked_protocols(asked: argparse.Namespace, plan: Plan) -> list[Protocol]:
    """The protocols asked for; by default our own, with the study's number of clips."""
    from dataclasses import replace

    from svgan.reports.evaluation import chosen

    found = chosen(asked.protocol, asked.clips, None, plan.judging.precision)
    if asked.clips is None and plan.judging.clips:
        found = [replace(p, clips=plan.judging.clips) if p.name in USUAL else p for p in found]
    return found


def compared(model: LoggedModel, protocols: list[Protocol], figures: dict[str, Any]) -> dict[str, Any]:
    """The figures that MLflow has of a model under these protocols, and whether they equal those measured now."""
    from sweeps.promotion.registry import figure

    found = {}
    for protocol in protocols:
        for name in (protocol.figure, f"{protocol.figure}_original"):
            value = figure(model, name)
            if value is not None and name in figures:
                found[name] = {"value": value, "equal": value == figures[name]["value"]}
    return found
