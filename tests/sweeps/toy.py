"""A study that a CPU finishes in seconds, as a file that `python` can run: the driver that the kill test kills."""

import os

from sweeps.study import Study, main


def space(trial):
    return {
        "gap_weight": trial.suggest_float("gap_weight", 0.0, 300.0),
        **{"trunk": (16,), "critic_widths": (16, 8), "width": 8, "batch": 8, "n_critic": 1, "components": 16},
    }


def toy(domain, **change):
    controls = [{"gap_weight": 0.0}, {"gap_weight": 100.0}]
    return Study("toy", space, domain=domain, controls=controls, **{"trials": 3, "steps": 16, "clips": 2} | change)


if __name__ == "__main__":
    main(toy(os.environ["TOY_DOMAIN"]))
