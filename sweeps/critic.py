"""Which critic? The paper's temporal convolutions, patches at two rates, or sparse frames with their differences.

    python sweeps/critic.py                                this machine, the embedded default footage
    ray submit cluster/gpu.yaml sweeps/critic.py -- --trials 24 --gpus-per-worker 1

Trials 0 to 2 are controls, each design at the recipe's learning rate; they always finish. TPE pairs a design with a
learning rate for the others, and they are stopped early unless among the best third of those that came so far.

Cost: three controls finish, so 15 to 20 min on two cores.
Expect: three FVD figures to compare; no design is known beforehand to win on codes.
"""

from sweeps.study import Study, main


def space(trial):
    return {
        "critic": trial.suggest_categorical("critic", ["tconv", "multiscale", "holistic"]),
        "lr": trial.suggest_float("lr", 2e-4, 4e-3, log=True),
    }


STUDY = Study(
    name="critic",
    space=space,
    recipe="tiny",
    metric="latent_fd",
    controls=[{"critic": design, "lr": 1e-3} for design in ("tconv", "multiscale", "holistic")],
)

if __name__ == "__main__":
    main(STUDY)
