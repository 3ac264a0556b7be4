"""The end of a study: table, plots, promotion, a clip of the champion, and where to look."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from svgan.errors import UserError
from svgan.metrics.names import FVD_LONG, LATENT_FD
from sweeps.driver.mlflow_follower import reconciled
from sweeps.ray_runtime import resources
from sweeps.reports import trial_table
from sweeps.search.optuna_store import open_study, read_record
from sweeps.storage import environment
from sweeps.storage.paths import absolute, is_remote
from sweeps.storage.plan import Plan
from sweeps.storage.tag_names import PARETO, TRIAL
from sweeps.tracking.client import Tracking
from sweeps.tracking.relay import LOOPBACK
from sweeps.tracking.sender import failures
from sweeps.tracking.trial_log import sync

if TYPE_CHECKING:
    import optuna

    from svgan.images.domain import Domain
    from sweeps.parallel.feature_pool import FeaturePool
    from sweeps.promotion.registry import Promotion


# The end of a study waits for an MLflow that restarts, not for one that is broken: nothing is lost, as
# `python -m sweeps sync` sends it later, and meanwhile a cluster's nodes may stand idle.
MLFLOW_SECONDS, MLFLOW_PAUSE_SECONDS = 120.0, 10.0


def conclude(plan: Plan) -> Promotion | None:
    """Send what MLflow does not have yet; then make plots, table, promotion and the champion's clip, and print where to
    look.

    If MLflow stays away, the results stay in the study's folder, and a line says how to send them later. Raises
    UserError if no trial finished.
    """
    left = sent_to_mlflow(plan, MLFLOW_SECONDS)
    if left:
        print(
            f"training is done, but MLflow cannot be used: {left} writes wait in the study's folder, "
            f"{plan.output.folder}\n"
            f"when it is back: python -m sweeps sync {plan.name}"
        )
        return None
    for line in reconciled(plan, read_record(plan)):  # what has just been sent may say otherwise than the record
        print(line)
    tracking = Tracking(plan)
    rows = show_results(plan, tracking, open_study(plan))
    if not any(row.status == "finished" for row in rows):
        reasons = [row.note for row in rows if row.note]
        why = f"the first failure said: {reasons[0]}" if reasons else "see the log"
        raise UserError(f"{plan.name}: no trial finished; {why}")
    promotion = promoted(plan, tracking) if plan.judging.clips else None
    if not plan.judging.clips:
        print("no FVD was measured (--clips 0), so no champion was chosen")
    print(f"see the runs with: {ui_command(plan.output.tracking)}")
    return promotion


def sent_to_mlflow(plan: Plan, wait: float) -> int:
    """Send what waits, retrying for `wait` seconds; return the number of writes left, 0 if MLflow has all."""
    deadline = time.monotonic() + wait
    while True:
        left = sync(plan)[1] or (0 if reachable(plan) else 1)
        if not left or time.monotonic() >= deadline:
            return left
        print(f"waiting for MLflow at {plan.output.tracking} ...", flush=True)
        time.sleep(min(MLFLOW_PAUSE_SECONDS, max(0.0, deadline - time.monotonic())))


def reachable(plan: Plan) -> bool:
    try:
        Tracking(plan).parent_id()
    except failures():
        return False
    return True


def show_results(plan: Plan, tracking: Tracking, record: optuna.Study) -> list[trial_table.Row]:
    """Print the table, log plots and the best figures on the parent run, and return the rows."""
    from rich.console import Console

    from sweeps.reports import plots, variant_table
    from sweeps.search import grid

    front = pareto(plan, tracking, record) if plan.search.objectives else ""
    runs = tracking.runs()
    rows = trial_table.rows_of(runs)
    Console().print(trial_table.render(rows, plan.name))
    if plan.search.grid:
        ablation = grid.ablation(plan.search.grid, runs)
        Console().print(grid.render(ablation, "ablation"))
        tracking.client.log_artifact(
            tracking.parent_id(), str(grid.write(ablation, Path(plan.output.folder, grid.TABLE)))
        )
    if variants := variant_table.lines(plan, runs):
        console = Console()
        console.print(variant_table.render(plan, variants, console.width))
        tracking.client.log_artifact(tracking.parent_id(), str(path := variant_table.write(plan, variants)))
        print(f"the whole comparison: {path}")
    if front:
        print(front)
    fvd = {row.number: row.fvd_long for row in rows if row.fvd_long is not None}
    for path in plots.write_plots(record, fvd, Path(plan.output.folder, "plots"), plan.search.objectives):
        tracking.client.log_artifact(tracking.parent_id(), str(path), "plots")
    best = {LATENT_FD: [row.latent_fd for row in rows], FVD_LONG: [row.fvd_long for row in rows]}
    for name, values in best.items():
        known = [value for value in values if value is not None]
        if known:
            tracking.client.log_metric(tracking.parent_id(), name, min(known))
    return rows


def promoted(plan: Plan, tracking: Tracking) -> Promotion | None:
    """Promote and make the clip. If the study cannot promote, for example because the champion is of another domain, a
    line says so and the study still ends well.
    """
    from sweeps.promotion import registry

    try:
        promotion = registry.promote(tracking, plan, partial(cluster_feature_pool, plan))
    except UserError as error:
        print(f"no promotion: {error}")
        return None
    print(promotion.message)
    clip = champion_clip(plan)
    print(f"clip of the champion: {clip}")
    if environment.launched():
        print(f"bring it here with: ray rsync-down {environment.yaml()} {clip} .")
    return promotion


def cluster_feature_pool(plan: Plan, domain: Domain) -> FeaturePool | None:
    """A pool of the workers that trials had, if a cluster is joined."""
    if not resources.joined():
        return None
    from sweeps.parallel.feature_pool import FeaturePool

    return FeaturePool(
        domain,
        plan.compute.workers * plan.compute.concurrency,
        plan.compute.cpus_per_worker,
        plan.compute.gpus_per_worker,
    )


def pareto(plan: Plan, tracking: Tracking, record: optuna.Study) -> str:
    """Tag the trials of the Pareto front in MLflow, untag those that left it, and print them."""

    front = {trial.number: trial.values for trial in record.best_trials}
    for run in tracking.runs():
        here = str(int(run.data.tags[TRIAL]) in front).lower()
        if run.data.tags.get(PARETO, "false") != here:
            tracking.client.set_tag(run.info.run_id, PARETO, here)
    told = [f"trial {number} ({', '.join(f'{v:.4g}' for v in front[number])})" for number in sorted(front)]
    return f"Pareto front of {', '.join(plan.search.objectives)}: {'; '.join(told) or 'empty, for no trial finished'}"


def champion_clip(plan: Plan) -> Path:
    """Write ten seconds of the champion, loaded by its alias as any user would load it."""
    import mlflow

    from svgan.io.video_writer import contact_sheet, write_mp4, write_png
    from svgan.latents.manifest import read_manifest

    model = mlflow.pyfunc.load_model(f"models:/{plan.output.model}@champion")
    frames = model.predict({"clips": 1, "frames": 250, "seed": plan.search.seed})[0]
    path = Path(plan.output.folder, "champion.mp4")
    write_mp4(frames, path, read_manifest(plan.data.latents).fps)
    write_png(contact_sheet(frames), path.with_suffix(".png"))
    return path


def ui_command(tracking: str) -> str:
    """The command that opens MLflow's UI on these runs."""
    parts = urlsplit(tracking)
    if environment.launched() and parts.hostname in LOOPBACK:
        return f"ray attach {environment.yaml()} -p {parts.port or 80}, at {tracking}"
    if is_remote(tracking) and tracking.startswith("http"):
        return f"open {tracking}"
    if tracking == absolute("sqlite:///mlflow.db"):
        return "mlflow ui"
    return f"mlflow ui --backend-store-uri {tracking}"
