"""How wide a GRU? The width of the memory cells, and of i, against latent distance and FVD.

    python sweeps/width.py                                 this machine, the embedded default footage
    ray submit cluster/gpu.yaml sweeps/width.py -- --trials 24 --gpus-per-worker 1

Trials 0 and 1 are controls of width 8 and 32 (the paper's); they always finish. The others are proposed by TPE and
stopped at a quarter and half of the steps unless they are in the better half.
"""

from sweeps.study import Study, main


def space(trial):
    return {"width": trial.suggest_int("width", 8, 64, step=8)}


STUDY = Study(
    name="width",
    space=space,
    recipe="tiny",
    metric="latent_fd",
    controls=[{"width": 8}, {"width": 32}],
    trials=6,
    steps=600,
)

if __name__ == "__main__":
    main(STUDY)
