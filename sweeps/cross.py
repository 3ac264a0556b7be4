"""How much contrast and how much matching? MoCoGAN-HD's cross-domain mode moves another domain's pictures as the
footage moves.

    python sweeps/cross.py --pictures dogs                 the embedded default footage, pictures of the domain in dogs/
    python sweeps/cross.py --pictures dogs --footage       learning from the frames that svgan embed --frames kept
    ray submit cluster/gpu.yaml sweeps/cross.py            the footage's own pictures, on a cluster (docs/clusters.md)

Trials 0 and 1 are controls: the weights of the released code, and those that it has for FFHQ. Both always finish. With
--pictures, latent FD compares movements only, as the footage's encoder reads them in the pictures. FVD is measured
against the footage, whose subject is another: it orders the trials of a study, and says little about the pictures
themselves.

Cost: 40 steps of 5 s of a core and some 2 min of figures a trial: half an hour on two cores.
Expect: ACD to fall with more matching; FVD far above 100, because so few steps hardly move anything.
"""

from sweeps.study import Study, main


def space(trial):
    return {
        "contrastive_weight": trial.suggest_float("contrastive_weight", 0.5, 8.0, log=True),
        "matching_weight": trial.suggest_float("matching_weight", 0.25, 8.0, log=True),
    }


STUDY = Study(
    name="cross",
    space=space,
    recipe="mocogan-hd-cross",
    controls=[{"contrastive_weight": 2.0, "matching_weight": weight} for weight in (1.0, 5.0)],
    steps=40,
    metrics=("fvd", "identity"),
)

if __name__ == "__main__":
    main(STUDY)
