"""How much GAP? The weight of the gradient angle penalty against latent distance and FVD.

    python sweeps/gap.py                                   this machine, the embedded default footage
    ray submit cluster/gpu.yaml sweeps/gap.py -- --trials 40 --workers 2 --gpus-per-worker 1
    python sweeps/gap.py --resume NAME                     finish one that was cut

Trials 0 and 1 are controls, without GAP and with the weight of 100 that is usual; they always finish. The others are
proposed by TPE and stopped at a quarter and half of the steps unless they are in the better half.
"""

from sweeps.study import Study, main


def space(trial):
    return {"gap_weight": trial.suggest_float("gap_weight", 0.0, 300.0)}


STUDY = Study(
    name="gap",
    space=space,
    recipe="tiny",
    metric="latent_fd",
    controls=[{"gap_weight": 0.0}, {"gap_weight": 100.0}],
    trials=6,
    steps=600,
)

if __name__ == "__main__":
    main(STUDY)
