"""The search loop: Tune runs Optuna's proposals as trials until all have ended."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from svgan.errors import UserError
from svgan.io import storage
from sweeps.driver.definition import Study
from sweeps.driver.flags import resume_command
from sweeps.ray_runtime.session import keep_secrets
from sweeps.reports.variant_table import labels
from sweeps.storage import stop_request, study_files
from sweeps.storage.plan import Plan
from sweeps.storage.usage import BudgetSpent

if TYPE_CHECKING:
    import optuna

    from sweeps.driver.budget import BudgetCallback
    from sweeps.tracking.client import Tracking
    from sweeps.trial.trainer import Loop


def search(
    study: Study, plan: Plan, tracking: Tracking, loop: Loop | None, local: bool, budget: BudgetCallback
) -> optuna.Study:
    """Run trials until all have ended; return Optuna's study. Raises BudgetSpent if the budget is used up before."""
    from functools import partial

    from ray import tune

    from sweeps.driver.life_watch import LifeWatch
    from sweeps.driver.live_table import LiveTable
    from sweeps.driver.run_closer import RunCloser
    from sweeps.driver.stall_limit import StallLimit
    from sweeps.ray_runtime.placement_groups import LeakedGroupRemover
    from sweeps.ray_runtime.resources import SLOT
    from sweeps.reports.trial_table import rows_of
    from sweeps.search.asha import ASHA
    from sweeps.search.optuna_store import open_record, unfinished
    from sweeps.search.tune_searcher import OptunaSearcher
    from sweeps.tracking import relay
    from sweeps.tracking.trial_log import TrialLog
    from sweeps.trial.controller import DRIVER_RETRIES, run_trial, train_loop, trial_folder
    from sweeps.trial.trainer import storage_arguments

    keep_secrets()
    opened = open_record(plan, controls=study.controls)
    record = opened.study

    def make(number: int, params: dict[str, Any]) -> dict[str, Any]:
        config = study.config(plan, params, number)
        TrialLog(plan, number).open(config | labels(params))
        return {"run": config, "plan": plan.to_json()}

    watch = stop_request.StopWatch(plan)
    searcher = OptunaSearcher(
        opened,
        study.space,
        make,
        metric=plan.search.objective,
        trials=plan.search.trials,
        concurrency=plan.compute.concurrency,
        stopping=watch,
        objectives=plan.search.objective_keys,
    )
    scheduler = ASHA(metric=plan.search.objective, rungs=plan.search.rungs, reduction=plan.search.reduction)
    scheduler.recall(record.get_trials(deepcopy=False))
    if not searcher.left:
        return record
    closer = RunCloser(plan, watch, budget)
    to_mlflow = None if local or not relay.of_one_machine(plan.output.tracking) else relay.start(plan)
    with LifeWatch(plan) as life, LiveTable(plan, rows_of(tracking.runs()), life) as table:
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
                    budget,
                    closer,
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
    if searcher.new or unfinished(record.get_trials(deepcopy=False)):
        if budget.spent:
            raise BudgetSpent(f"{budget.line()}; go on with a larger one: {resume_command(plan)} --max-gpu-hours X")
        if closer.died:
            number, reason = next(iter(closer.died.items()))
            raise UserError(
                f"trial {number}: its process died {DRIVER_RETRIES + 1} times, at last with {reason}; when that is "
                f"mended: {resume_command(plan)}"
            )
        raise KeyboardInterrupt
    return record
