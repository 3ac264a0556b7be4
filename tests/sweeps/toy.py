"""A study that a CPU finishes in seconds, as a file that `python` can run: the driver that the kill test kills."""

import os
import sys
import time
from pathlib import Path

from sweeps.study import Study, main, run


def space(trial):
    return {
        "gap_weight": trial.suggest_float("gap_weight", 0.0, 300.0),
        **{"trunk": (16,), "critic_widths": (16, 8), "width": 8, "batch": 8, "n_critic": 1, "components": 16},
    }


def toy(domain, **change):
    controls = [{"gap_weight": 0.0}, {"gap_weight": 100.0}]
    return Study("toy", space, domain=domain, controls=controls, **{"trials": 3, "steps": 16, "clips": 2} | change)


def hanging_loop(config):
    """The workers' real loop, which stands still at a step the first time a worker gets there."""
    mark = Path(os.environ["TOY_MARK"])

    def hang(plan):
        if not mark.exists():
            mark.touch()
            time.sleep(3600)

    return before_step(int(os.environ["TOY_HANGS_AT"]), hang, config)


def heeding_loop(config):
    """The workers' real loop, which at a step waits until a stop was asked for and will be looked for at the next."""
    from sweeps import halt

    def heed(plan):
        while not halt.requested(plan):
            time.sleep(0.1)
        time.sleep(halt.Watch(plan).every + 0.1)

    return before_step(int(os.environ["TOY_HEEDS_AT"]), heed, config)


def before_step(step, what, config):
    from sweeps import worker
    from sweeps.plan import Plan

    inner, plan = worker.iterate, Plan.from_json(config["plan"])

    def iterate(state, clips, process):
        if state.step == step:
            what(plan)
        return inner(state, clips, process)

    worker.iterate = iterate
    return worker.train_loop(config)


if __name__ == "__main__":
    if "TOY_MLFLOW_MAY_TAKE" in os.environ:
        from sweeps import outcome

        outcome.MLFLOW_MAY_TAKE = float(os.environ["TOY_MLFLOW_MAY_TAKE"])
    if "TOY_HANGS_AT" in os.environ:
        run(toy(os.environ["TOY_DOMAIN"]), sys.argv[1:], loop=hanging_loop)
    elif "TOY_HEEDS_AT" in os.environ:
        try:
            run(toy(os.environ["TOY_DOMAIN"]), sys.argv[1:], loop=heeding_loop)
        except KeyboardInterrupt:
            sys.exit(130)
    else:
        main(toy(os.environ["TOY_DOMAIN"]))
