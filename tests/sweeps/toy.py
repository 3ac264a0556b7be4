"""A study that a CPU finishes in seconds, as a file that `python` can run: the driver that the kill test kills."""

import os
import sys
import time

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
    from pathlib import Path

    from sweeps import worker

    inner, mark, step = worker.iterate, Path(os.environ["TOY_MARK"]), int(os.environ["TOY_HANGS_AT"])

    def iterate_or_hang(state, clips, process):
        if state.step == step and not mark.exists():
            mark.touch()
            time.sleep(3600)
        return inner(state, clips, process)

    worker.iterate = iterate_or_hang
    return worker.train_loop(config)


if __name__ == "__main__":
    if "TOY_MLFLOW_MAY_TAKE" in os.environ:
        from sweeps import outcome

        outcome.MLFLOW_MAY_TAKE = float(os.environ["TOY_MLFLOW_MAY_TAKE"])
    if "TOY_HANGS_AT" in os.environ:
        run(toy(os.environ["TOY_DOMAIN"]), sys.argv[1:], loop=hanging_loop)
    else:
        main(toy(os.environ["TOY_DOMAIN"]))
