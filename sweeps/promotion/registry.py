"""The champion: a study's best checkpoint is registered only if it beats the present champion under the same
protocol.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from svgan.errors import UserError
from svgan.metrics.names import LATENT_FD
from sweeps.promotion.final_evaluation import FIGURE, FINALISTS, FinalEvaluation, MakePool
from sweeps.promotion.final_evaluation import asked as finals_asked
from sweeps.promotion.model_store import DOMAIN, at_hand, downloaded
from sweeps.storage.life import StudySigns
from sweeps.storage.plan import Plan
from sweeps.storage.tag_names import PROTOCOL_LONG, SEED, STEP, SWEEP, TRIAL
from sweeps.tracking.client import Tracking, of_seed, sweep_models
from sweeps.tracking.trial_log import TrialLog

if TYPE_CHECKING:
    from mlflow.entities import LoggedModel
    from mlflow.entities.model_registry import ModelVersion


ALIAS, PREVIOUS = "champion", "previous-champion"
# Tags that must agree before two figures may be compared: the protocol, the renderers and the codes.
MEASURED_BY = (PROTOCOL_LONG, "domain", "pictures", "latents")


@dataclasses.dataclass(frozen=True)
class Promotion:
    """The outcome of a promotion. version: None if the champion stays; message: the outcome in one line."""

    model: str
    version: str | None
    trial: int
    step: int
    fvd_long: float
    message: str


def figure(model: LoggedModel, name: str) -> float | None:
    own = (name, of_seed(name, model.tags.get(SEED, "")))
    values = [metric.value for metric in model.metrics or [] if metric.key in own]
    return values[-1] if values else None


def best_models(tracking: Tracking, plan: Plan) -> list[LoggedModel]:
    """The study's candidates, best first: all logged models that have FVD long, of pruned trials too.

    Models of trials that did not finish have no FVD. If one of them has the lowest latent distance of all, its FVD is
    measured first. Raises UserError if the study has no model.
    """
    models = sweep_models(tracking.client, tracking.experiment, plan.name)
    judged = {m.model_id: value for m in models if (value := figure(m, LATENT_FD)) is not None}
    if not judged:
        raise UserError(f"{plan.name}: no model was logged, so there is nothing to promote; let a trial reach a report")
    scored = {m.model_id: value for m in models if (value := figure(m, FIGURE)) is not None}
    first = min(judged, key=lambda model_id: judged[model_id])
    if first not in scored:
        scored[first] = score_model(tracking, plan, first)[FIGURE]
    return [tracking.client.get_logged_model(model_id) for model_id in sorted(scored, key=lambda one: scored[one])]


def score_model(tracking: Tracking, plan: Plan, model_id: str) -> dict[str, float]:
    """Measure the FVD of a logged model under the plan's protocol, and log it."""
    model = tracking.client.get_logged_model(model_id)
    figures = score_uri(plan, f"models:/{model_id}")
    seed, step = model.tags.get(SEED, ""), int(model.tags[STEP])
    named = {of_seed(name, seed): value for name, value in figures.items()} if seed else figures
    TrialLog(plan, int(model.tags[TRIAL])).metrics(step, named, step, seed)
    return figures


def score_uri(plan: Plan, uri: str) -> dict[str, float]:
    """Measure the FVD of a model in MLflow under the plan's protocol, in its domain and on its codes."""
    from svgan.sampling.sampler import Sampler
    from sweeps.trial.artifacts import score

    material, device = at_hand(plan)
    print(f"measuring FVD of {uri} on {plan.judging.clips} clips ...", flush=True)
    with downloaded(plan.output.tracking, uri) as folder:
        return score(Sampler.load(folder, device), material, plan, StudySigns(plan))


def champion(tracking: Tracking, name: str) -> ModelVersion | None:
    from mlflow.exceptions import MlflowException

    try:
        return tracking.client.get_model_version_by_alias(name, ALIAS)
    except MlflowException as error:
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            return None
        raise


def champion_figure(
    tracking: Tracking, plan: Plan, version: ModelVersion, candidate: LoggedModel, finals: FinalEvaluation | None
) -> float:
    """The champion's FVD long under the candidate's protocol: the recorded value, or measured now if the protocol
    differs.

    Raises UserError if the champion is of another domain, because such figures cannot be compared.
    """
    if any(version.tags.get(name) != candidate.tags.get(name) for name in ("domain", "pictures")):
        raise UserError(
            f"models:/{plan.output.model}@{ALIAS}: version {version.version} is of another domain than this study; "
            "promote under another name with --model"
        )
    wanted = {key: candidate.tags.get(key) for key in MEASURED_BY} | (finals.rule if finals else {})
    if all(version.tags.get(key) == wanted.get(key) for key in (*MEASURED_BY, "generation_seeds")):
        return float(version.tags[FIGURE])
    if finals:
        return finals.evaluate(tracking.client.get_logged_model(str(version.source).removeprefix("models:/"))).mean
    return score_uri(plan, f"models:/{plan.output.model}/{version.version}")[FIGURE]


def promote(tracking: Tracking, plan: Plan, make_pool: MakePool | None = None) -> Promotion:
    """Register the study's best checkpoint as `champion` if its FVD long is lower than the present champion's.

    If the plan asks for a final evaluation, it decides among the best few, by the mean over generation seeds.
    make_pool: returns the pool that extracts features in a domain; None: this process extracts them.

    Raises UserError for a study without FVD (--clips 0), without models, or of another domain than the champion's.
    """
    if not plan.judging.clips:
        raise UserError(f"{plan.name}: run with --clips 0, so without FVD; a champion is chosen by FVD")
    finals = FinalEvaluation(tracking, plan, make_pool) if finals_asked(plan) else None
    candidate, *others = best_models(tracking, plan)
    value = figure(candidate, FIGURE)
    assert value is not None
    told_value, clips = f"{value:.4g}", f"{plan.judging.clips} clips"
    if finals:
        final = min(map(finals.evaluate, [candidate, *others][:FINALISTS]), key=lambda one: one.mean)
        candidate, value, told_value = final.model, final.mean, str(final)
        seeds = len(finals.seeds)
        clips = f"{finals.protocol.clips} clips of {f'each of {seeds} seeds' if seeds > 1 else 'one seed'}"
    told = Promotion(plan.output.model, None, int(candidate.tags[TRIAL]), int(candidate.tags[STEP]), value, "")
    present = champion(tracking, plan.output.model)
    if present is not None:
        if present.source == f"models:/{candidate.model_id}":
            message = f"models:/{plan.output.model}@{ALIAS} is this checkpoint already (version {present.version})"
            return dataclasses.replace(told, message=message)
        to_beat = champion_figure(tracking, plan, present, candidate, finals)
        if value >= to_beat:
            return dataclasses.replace(
                told,
                message=f"champion stays (version {present.version}): trial {told.trial}, step {told.step} has FVD "
                f"long {told_value} against its {to_beat:.4g}, {value - to_beat:.4g} short of it",
            )
    rule = finals.rule if finals else {"clips": str(plan.judging.clips)}
    version = register(tracking, plan, candidate, value, rule)
    against = f", the one before had {to_beat:.4g}" if present is not None else ""
    message = (
        f"models:/{plan.output.model}@{ALIAS} is now version {version}: trial {told.trial}, step {told.step}, "
        f"FVD long {told_value} on {clips}{against}"
    )
    return dataclasses.replace(told, version=version, message=message)


def register(tracking: Tracking, plan: Plan, candidate: LoggedModel, value: float, rule: Mapping[str, str]) -> str:
    """Add the domain to the candidate, register it, load it back once, and only then move the alias."""
    import mlflow
    from mlflow.exceptions import MlflowException

    client = tracking.client
    with domain_copy(plan.data.pictures or plan.data.domain) as folder:
        client.log_model_artifacts(candidate.model_id, str(folder), DOMAIN)
    with contextlib.suppress(MlflowException):
        client.create_registered_model(plan.output.model)
    tags = {key: candidate.tags[key] for key in (*MEASURED_BY, SWEEP, TRIAL, STEP, SEED) if key in candidate.tags}
    made = client.create_model_version(
        plan.output.model,
        source=f"models:/{candidate.model_id}",
        run_id=candidate.source_run_id,
        tags={**tags, **rule, FIGURE: repr(value)},
        model_id=candidate.model_id,
    )
    frames = mlflow.pyfunc.load_model(f"models:/{plan.output.model}/{made.version}").predict({"clips": 1, "frames": 2})
    if frames.shape[:2] != (1, 2):
        raise UserError(
            f"models:/{plan.output.model}/{made.version}: does not sample when loaded back; not made champion"
        )
    present = champion(tracking, plan.output.model)
    if present is not None:
        client.set_registered_model_alias(plan.output.model, PREVIOUS, present.version)
    client.set_registered_model_alias(plan.output.model, ALIAS, made.version)
    return str(made.version)


@contextlib.contextmanager
def domain_copy(name: str) -> Iterator[Path]:
    """Copy the files that render a domain, its facts and its card, into a scratch folder.

    Codes, moments and the encoder, which has 1.1 GB in pSp's case, are left out. An encoder whose digest is not
    recorded is copied, because the domain's digest is made of it.
    """
    from svgan.images.domain import ENCODER, Domain

    domain = Domain.load(name)
    with tempfile.TemporaryDirectory(prefix="svgan-domain-") as folder:
        for path in domain.folder.iterdir():
            if path.is_file() and not (path.name == ENCODER and "weights" in domain.facts):
                shutil.copy(path, os.path.join(folder, path.name))
        yield Path(folder)
