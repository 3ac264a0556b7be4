"""Which system? Compare StyleVideoGAN, MoCoGAN-HD and StyleGAN-V, and ablations of each, with equal training time.

    python sweeps/systems.py                               this machine, the embedded default footage
    python sweeps/systems.py --trials 5                    the systems without the ablations
    python sweeps/systems.py --seconds 3600 --clips 256    an hour for each seed, and firmer figures
    python sweeps/systems.py --resume NAME                 finish a study that was interrupted

The study runs on this machine, or on the Ray cluster that RAY_ADDRESS or a `ray start` on this host names. Every
variant trains for the same time on the same footage and domain. A few iterations of each are timed first, alone, and
determine its steps. The best checkpoint of each of three seeds is measured. The table has 95 % intervals over seeds; it
is printed, kept in MLflow, and written as comparison.md beside the study. Latent FD is measured in each system's own
space and does not compare systems. "Cross-domain" is that mode with pictures of the footage's own domain. Without
contrast, matching stays, by a projection F that nothing trains.

Cost: 36 runs, each of its --seconds and then 2 to 9 min of figures, on as many cores: half a day on two.
Expect: after 180 s of a core (docs/results.md) FVD long of 31 for StyleVideoGAN and 19 for StyleGAN-V on codes. Systems
that learn from pictures stay at 105 and more, after 38 steps (MoCoGAN-HD) or 185 (StyleGAN-V). No GPU has run it.
"""

from sweeps.study import Study, main

ALONE, CROSS, OFF = {"recipe": "mocogan-hd"}, {"recipe": "mocogan-hd-cross"}, {"contrastive_weight": 0.0}
SYSTEMS: dict[str, dict] = {
    "StyleVideoGAN": {},
    "MoCoGAN-HD": ALONE,
    "MoCoGAN-HD cross-domain": CROSS,
    "StyleGAN-V": {"recipe": "stylegan-v"},
    "StyleGAN-V on codes": {"recipe": "stylegan-v-codes"},
}
ABLATIONS: dict[str, dict] = {
    "StyleVideoGAN without GAP": {"gap_weight": 0.0},
    "MoCoGAN-HD without residual basis": ALONE | {"basis": False},
    "MoCoGAN-HD without image critic": ALONE | {"image_weight": 0.0},
    "MoCoGAN-HD without video critic": ALONE | {"video_weight": 0.0},
    "MoCoGAN-HD cross-domain without contrast": CROSS | OFF,
    "MoCoGAN-HD cross-domain without contrast and matching": CROSS | OFF | {"matching_weight": 0.0},
    "MoCoGAN-HD cross-domain without mutual information": CROSS | {"information_weight": 0.0},
}
VARIANTS = SYSTEMS | ABLATIONS


def space(trial):
    name = trial.suggest_categorical("variant", list(VARIANTS))
    return {"variant": name, **VARIANTS[name]}


STUDY = Study(
    name="systems",
    space=space,
    recipe="tiny",
    controls=[{"variant": name} for name in VARIANTS],
    trials=len(VARIANTS),
    rungs=(),
    seeds=3,
    seconds=150.0,
    metrics=("fvd", "fid", "identity", "loops"),
)

if __name__ == "__main__":
    main(STUDY)
