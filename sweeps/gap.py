"""How much GAP? Search the weight of the gradient angle penalty by latent distance and FVD.

    python sweeps/gap.py                                      this machine, the embedded default footage
    python sweeps/gap.py --resume NAME                        finish a study that was interrupted
    python sweeps/gap.py --grid gap_weight=0,1,10 --seeds 3   an ablation table: mean and interval of three seeds
    python sweeps/gap.py --objectives fvd_short,fvd_long      both at once, towards their Pareto front
    ray submit cluster/gpu.yaml sweeps/gap.py                 on a cluster (docs/clusters.md)

The study runs on this machine, or on the Ray cluster that RAY_ADDRESS or a `ray start` on this host names.

Trials 0 and 1 are controls, without GAP and with the recipe's weight; both always finish. TPE proposes the others. They
are pruned at a quarter and at half of the steps unless they are among the best third so far.

Cost: 10 min on two cores with AMX; without it FVD takes 3 min more for each finished trial.
Expect: latent FD about 0.17. On 64 clips, FVD short is about 18 without GAP and 20 with it, FVD long about 40 and 29.
GAP costs a little on short clips, and improves long ones.
"""

from sweeps.study import LATENT_FD, Study, main


def space(trial):
    return {"gap_weight": trial.suggest_float("gap_weight", 0.0, 20.0)}


STUDY = Study(
    name="gap",
    space=space,
    recipe="tiny",
    metric=LATENT_FD,
    controls=[{"gap_weight": 0.0}, {"gap_weight": 1.0}],
    grid={"gap_weight": [0.0, 0.3, 1.0, 3.0, 10.0]},
)

if __name__ == "__main__":
    main(STUDY)
