"""The search loop: Tune runs the core's trials until all have ended."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from svgan.errors import UserError
from svgan.io import storage
from sweeps.driver.definition import Study
from sweeps.driver.flags import resume_command
from sweeps.ray_runtime.session import keep_secrets
from sweeps.reports.variant_table import labels
from sweeps.storage import driver_lock, events, stop_request, study_files
from sweeps.storage.plan import Plan

if TYPE_CHECKING:
    from sweeps.driver.budget import BudgetCallback
    from sweeps.record.core import Core
    from sweeps.storage.driver_lease import Lease
    from sweeps.storage.stop_request import StopWatch
    from sweeps.tracking.client import Tracking
    from sweeps.trial.trainer import Loop


def open_core(study: Study, plan: Plan, watch: StopWatch, budget: BudgetCallback, driver: str) -> Core:
    """The study's core on its record in the storage, with Optuna's storage and MLflow as followers.

    Takes the study over, applies what an earlier driver decided and did not apply, and reconciles the followers.
    driver: a name that no other driver has.
    """
    from functools import partial

    from sweeps.driver.mlflow_follower import MlflowFollower
    from sweeps.record.core import Core
    from sweeps.record.entries import Driven
    from sweeps.record.patient_follower import PatientFollower
    from sweeps.search.optuna_mirror import failures
    from sweeps.search.optuna_store import open_log, open_mirror, recorded_before
    from sweeps.search.proposer import StudyRules
    from sweeps.search.warm_start import warmed

    optuna = PatientFollower(
        open_mirror(plan),
        errors=failures(),
        name="Optuna's storage",
        patience=60 * plan.compute.patience,
        tell=partial(events.tell, plan, None),
        stop=watch.stop,
    )
    mlflow = MlflowFollower(
        plan,
        lambda number, params: study.config(plan, params, number) | labels(params),
        budget.figures,
        watch.stop,
    )
    core = Core(
        open_log(plan, driver),
        StudyRules(plan, study.space),
        trials=plan.search.trials,
        objectives=plan.search.objective_keys,
        followers=[optuna, mlflow],
        stopping=watch,
        before=partial(recorded_before, plan),
    )
    warm = warmed(plan, study.space) if plan.search.warm_start and not core.state.warm else None
    for line in core.begin(Driven(driver=driver, where=driver_lock.here()), study.controls, plan.search.enqueued, warm):
        events.tell(plan, None, line)
    return core


def search(
    study: Study, plan: Plan, tracking: Tracking, loop: Loop | None, local: bool, budget: BudgetCallback, lease: Lease
) -> None:
    """Run trials until all have ended.

    Raises BudgetSpent if the budget is used up before, and Superseded if another driver takes the study over.
    """
    from functools import partial

    from ray import tune

    from sweeps.driver.life_watch import LifeWatch
    from sweeps.driver.live_table import LiveTable
    from sweeps.driver.stall_limit import StallLimit
    from sweeps.ray_runtime.placement_groups import LeakedGroupRemover
    from sweeps.ray_runtime.resources import SLOT
    from sweeps.reports.trial_table import rows_of
    from sweeps.search.tune_adapter import CoreCallback, CoreScheduler, CoreSearcher
    from sweeps.tracking import relay
    from sweeps.trial.controller import DRIVER_RETRIES, run_trial, train_loop, trial_folder
    from sweeps.trial.trainer import storage_arguments

    keep_secrets()
    watch = stop_request.StopWatch(plan)
    core = open_core(study, plan, watch, budget, lease.driver)
    if not core.left:
        return

    def make(number: int, params: dict[str, Any]) -> dict[str, Any]:
        return {"run": study.config(plan, params, number), "plan": plan.to_json()}

    metric = plan.search.objective
    searcher = CoreSearcher(core, make, metric=metric, concurrency=plan.compute.concurrency)
    ends = CoreCallback(core, watch, metric=metric, lost=lambda: lease.lost)
    to_mlflow = None if local or not relay.of_one_machine(plan.output.tracking) else relay.start(plan)
    with LifeWatch(plan) as life, LiveTable(plan, rows_of(tracking.runs()), life) as table:
        tuner = tune.Tuner(
            tune.with_resources(partial(run_trial, loop=loop or train_loop), {SLOT: 1}),
            tune_config=tune.TuneConfig(
                search_alg=searcher,
                scheduler=CoreScheduler(core, metric=metric),
                num_samples=core.left,
                trial_dirname_creator=trial_folder,
            ),
            run_config=tune.RunConfig(
                name=f"{plan.name}/tune",
                callbacks=[
                    budget,
                    ends,
                    table,
                    LeakedGroupRemover(),
                    life,
                    StallLimit(plan, life, local),
                ],
                failure_config=tune.FailureConfig(max_failures=DRIVER_RETRIES),
                verbose=0,
                **storage_arguments(plan.output.storage),
            ),
        )
        try:
            tuner.fit()
        except UserError:
            raise
        except Exception as error:
            broken = storage.trouble(plan.output.folder, error) or storage.trouble(study_files.place(plan), error)
            if not broken:
                raise
            watch.stop(f"--storage {plan.output.storage}: cannot be written ({broken})")
        table.listen()
    del to_mlflow
    if watch.why:
        raise UserError(f"{watch.why}; when that is mended: {resume_command(plan)}")
    if core.unfinished():
        if budget.spent:
            raise budget.error()
        if ends.died:
            number, reason = next(iter(ends.died.items()))
            raise UserError(
                f"trial {number}: its process died {DRIVER_RETRIES + 1} times, at last with {reason}; when that is "
                f"mended: {resume_command(plan)}"
            )
        raise KeyboardInterrupt
    for line in core.reconcile():
        events.tell(plan, None, line)
