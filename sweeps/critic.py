"""Which critic? The paper's temporal convolutions, patches at two rates, or sparse frames with their differences.

    python sweeps/critic.py                                this machine, the embedded default footage
    ray submit cluster/gpu.yaml sweeps/critic.py -- --trials 24 --gpus-per-worker 1

Trials 0 to 2 are controls, one of each design with the default learning rate; they always finish. The others pair a
design with a learning rate, proposed by TPE, and are stopped early unless they are in the better half.
"""

from sweeps.study import Study, main


def space(trial):
    return {
        "critic": trial.suggest_categorical("critic", ["tconv", "multiscale", "holistic"]),
        "lr": trial.suggest_float("lr", 1e-4, 2e-3, log=True),
    }


STUDY = Study(
    name="critic",
    space=space,
    recipe="tiny",
    metric="latent_fd",
    controls=[{"critic": design, "lr": 5e-4} for design in ("tconv", "multiscale", "holistic")],
    trials=6,
    steps=600,
)

if __name__ == "__main__":
    main(STUDY)
