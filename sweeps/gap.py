"""How much GAP? The weight of the gradient angle penalty against latent distance and FVD.

    python sweeps/gap.py                                   this machine, the embedded default footage
    python sweeps/gap.py --resume NAME                     finish one that was cut
    ray submit cluster/gpu.yaml sweeps/gap.py -- --trials 40 --gpus-per-worker 1

Trials 0 and 1 are controls, without GAP and with the recipe's weight; both always finish. TPE proposes the others,
and they are stopped at a quarter and half of the steps unless among the best third of those that came so far.

Cost: a finished trial takes about 1 min of training and 2.5 min of FVD on one core (5 without AMX), so 10 to 14 min
on two cores in all.
Expect: both controls with an FVD; GAP may cost a little latent FD and FVD short, and is there for FVD long.
"""

from sweeps.study import Study, main


def space(trial):
    return {"gap_weight": trial.suggest_float("gap_weight", 0.0, 20.0)}


STUDY = Study(
    name="gap",
    space=space,
    recipe="tiny",
    metric="latent_fd",
    controls=[{"gap_weight": 0.0}, {"gap_weight": 1.0}],
)

if __name__ == "__main__":
    main(STUDY)
