"""How wide a GRU? Search the width of the memory cells, and of i, by latent distance and FVD.

    python sweeps/width.py                                 this machine, the embedded default footage
    python sweeps/width.py --grid                          widths 8, 16, 32 and 64, all whole, as a table
    ray submit cluster/gpu.yaml sweeps/width.py            on a cluster (docs/clusters.md)

The study runs on this machine, or on the Ray cluster that RAY_ADDRESS or a `ray start` on this host names.

Trials 0 and 1 are controls of width 8 and 32 (the paper's); both always finish. TPE proposes the others. They are
pruned at a quarter and at half of the steps unless they are among the best third so far.

Cost: as sweeps/gap.py, 10 to 15 min on two cores.
Expect: width 32 at a lower latent FD than width 8, and little gain beyond.
"""

from sweeps.study import LATENT_FD, Study, main


def space(trial):
    return {"width": trial.suggest_int("width", 8, 64, step=8)}


STUDY = Study(
    name="width",
    space=space,
    recipe="tiny",
    metric=LATENT_FD,
    controls=[{"width": 8}, {"width": 32}],
    grid={"width": [8, 16, 32, 64]},
)

if __name__ == "__main__":
    main(STUDY)
