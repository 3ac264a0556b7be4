"""A study that a CPU finishes in seconds, as a file that `python` can run: the driver that the kill test kills."""

import functools
import os
import time
from pathlib import Path

from sweeps.study import Study, main


def space(trial):
    return {
        "gap_weight": trial.suggest_float("gap_weight", 0.0, 300.0),
        **{"trunk": (16,), "critic_widths": (16, 8), "width": 8, "batch": 8, "n_critic": 1, "components": 16},
    }


def toy(domain, **change):
    controls = [{"gap_weight": 0.0}, {"gap_weight": 100.0}]
    return Study("toy", space, domain=domain, controls=controls, **{"trials": 3, "steps": 16, "clips": 2} | change)


def watched_loop(config, asked):
    """The workers' real loop, slow enough on any machine to be disturbed while it runs: every step takes TOY_PACE
    seconds more, and at a step it stands still. asked: the driver's variables TOY_...; files say that it is there.

    TOY_HANGS_AT: the first time, for ever, with TOY_MARK.
    TOY_HOLDS_AT: with TOY_HOLD.held, until there is TOY_HOLD.released.
    TOY_LEAVES_AT: with TOY_MARK, until Ray says that its node is drained; a step within two seconds heeds it.
    TOY_HEEDS_AT, steps: with TOY_MARK, until a stop was asked for; the next step heeds it. TOY_HEEDS: of this study
    alone.

    TOY_CLIP_PACE: seconds that every part of the scoring takes more.
    """
    import ray.train

    from sweeps.storage.plan import Plan
    from sweeps.trial import reporter, worker

    inner, plan, score = worker.iterate, Plan.from_json(config["plan"]), reporter.score
    heeds = asked.get("TOY_HEEDS_AT", "").split(",")

    def iterate(state, clips, process):
        time.sleep(float(asked.get("TOY_PACE", "0")))
        if str(state.step) == asked.get("TOY_HANGS_AT"):
            hang(Path(asked["TOY_MARK"]))
        if str(state.step) == asked.get("TOY_HOLDS_AT"):
            hold(Path(asked["TOY_HOLD"]))
        if str(state.step) == asked.get("TOY_LEAVES_AT"):
            Path(asked["TOY_MARK"]).touch()
            wait(lambda: ray.train.get_preemption_info() is not None)
        if str(state.step) in heeds and plan.name == asked.get("TOY_HEEDS", plan.name):
            heed(plan, Path(asked["TOY_MARK"]))
        return inner(state, clips, process)

    def slowly_score(sampler, material, plan, progress):
        def slow(stage, done, total):
            time.sleep(float(asked.get("TOY_CLIP_PACE", "0")))
            progress(stage, done, total)

        return score(sampler, material, plan, slow)

    worker.iterate, reporter.score = iterate, slowly_score
    return worker.train_loop(config)


def hang(mark):
    if not mark.exists():
        mark.touch()
        time.sleep(3600)


def wait(what):
    """Until what() is true, or the test that would make it so is long gone."""
    until = time.monotonic() + 3600
    while not what() and time.monotonic() < until:
        time.sleep(0.05)


def hold(path):
    path.with_suffix(".held").touch()
    wait(path.with_suffix(".released").exists)


def heed(plan, mark):
    from sweeps.storage import stop_request

    mark.touch()
    wait(lambda: stop_request.requested(plan))
    time.sleep(stop_request.StopWatch(plan).every + 0.1)  # then it will be looked for


def hold_before_the_run_is_closed(path):
    """The driver stands still when a trial has been told to Optuna and its run in MLflow is still open."""
    from sweeps.tracking.trial_log import TrialLog

    close = TrialLog.close

    def held(log, *asked, **named):
        hold(path)
        close(log, *asked, **named)

    TrialLog.close = held


if __name__ == "__main__":
    if "TOY_HOLDS_CLOSE" in os.environ:
        hold_before_the_run_is_closed(Path(os.environ["TOY_HOLDS_CLOSE"]))
    if "TOY_EFFECTS" in os.environ:
        import driver_effects  # tests/faults, which is on the path there

        driver_effects.watch(Path(os.environ["TOY_EFFECTS"]), int(os.environ.get("TOY_DIES_AT", "0")))
    if "TOY_MLFLOW_SECONDS" in os.environ:
        from sweeps.driver import conclude

        conclude.MLFLOW_SECONDS = float(os.environ["TOY_MLFLOW_SECONDS"])
    more = {"reports": int(os.environ["TOY_REPORTS"])} if "TOY_REPORTS" in os.environ else {}
    studied = toy(os.environ["TOY_DOMAIN"], recipe=os.environ.get("TOY_RECIPE", "tiny"), **more)
    asked = {name: value for name, value in os.environ.items() if name.startswith("TOY_")}
    main(studied, loop=functools.partial(watched_loop, asked=asked) if "TOY_PACE" in asked else None)
