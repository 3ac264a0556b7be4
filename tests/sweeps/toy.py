"""A study that a CPU finishes in seconds, as a file that `python` can run: the driver that the kill test kills."""

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


def watched_loop(config):
    """The workers' real loop, slow enough on any machine to be disturbed while it runs: every step takes TOY_PACE
    seconds more. At TOY_HANGS_AT it makes the file TOY_MARK and stands still, the first time that a worker gets there;
    at TOY_HEEDS_AT it makes TOY_MARK and waits until a stop was asked for and will be looked for at the next step."""
    from sweeps.storage.plan import Plan
    from sweeps.trial import worker

    inner, plan, asked = worker.iterate, Plan.from_json(config["plan"]), os.environ.get

    def iterate(state, clips, process):
        time.sleep(float(asked("TOY_PACE", "0")))
        if str(state.step) == asked("TOY_HANGS_AT"):
            hang(Path(os.environ["TOY_MARK"]))
        if str(state.step) == asked("TOY_HEEDS_AT"):
            heed(plan, Path(os.environ["TOY_MARK"]))
        return inner(state, clips, process)

    worker.iterate = iterate
    return worker.train_loop(config)


def hang(mark):
    if not mark.exists():
        mark.touch()
        time.sleep(3600)


def heed(plan, mark):
    from sweeps.storage import stop_request

    mark.touch()
    while not stop_request.requested(plan):
        time.sleep(0.1)
    time.sleep(stop_request.Watch(plan).every + 0.1)


if __name__ == "__main__":
    if "TOY_MLFLOW_MAY_TAKE" in os.environ:
        from sweeps.driver import conclude

        conclude.MLFLOW_MAY_TAKE = float(os.environ["TOY_MLFLOW_MAY_TAKE"])
    studied = toy(os.environ["TOY_DOMAIN"], recipe=os.environ.get("TOY_RECIPE", "tiny"))
    main(studied, loop=watched_loop if "TOY_PACE" in os.environ else None)
