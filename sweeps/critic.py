"""Which critic? Compare three critics of codes and two of rendered frames.

Of codes: temporal convolutions, patches at two rates, sparse frames with their differences. Of rendered frames,
MoCoGAN-HD's: clips with pairs of frames, and clips with single frames and contrast.

    python sweeps/critic.py                                this machine, the embedded default footage
    python sweeps/critic.py --grid critic=tconv,holistic --seeds 3   a table: mean and interval of three seeds

The study runs on this machine, or on the Ray cluster that RAY_ADDRESS or a `ray start` on this host names. Trials 0 to
4 are controls: each critic with the settings of its recipe. They always finish. TPE pairs a critic with a learning rate
and with the critic's own settings. A critic of codes trains StyleVideoGAN's generator for --steps; a critic of frames
trains MoCoGAN-HD's for 16 steps, which take as long. Latent FD is measured in each system's own space, so it prunes
critics of codes only. The objectives are FVD short and FVD long.

Cost: five controls finish, so 30 to 40 min on two cores.
Expect: FVD figures to compare. No critic of codes is known to win, and critics of frames learn little in that time.
"""

from sweeps.study import FVD_LONG, FVD_SHORT, Study, main

FRAMES = {"pairs": "mocogan-hd", "contrast": "mocogan-hd-cross"}
OWN = {"tconv": {"critic_kernel": 5}, "multiscale": {"critic_rates": 2}, "holistic": {"critic_starts": 4}}
OWN_FRAMES = {"pairs": {"gp_weight": 10.0}, "contrast": {"gp_weight": 10.0, "contrastive_weight": 2.0}}


def space(trial):
    critic = trial.suggest_categorical("critic", [*OWN, *OWN_FRAMES])
    if critic in FRAMES:
        params = {"variant": critic, "recipe": FRAMES[critic], "steps": 16}
        params["lr"] = trial.suggest_float("lr_frames", 2e-5, 1e-3, log=True)
        params["gp_weight"] = trial.suggest_float("gp_weight", 1.0, 30.0, log=True)
        if critic == "contrast":
            params["contrastive_weight"] = trial.suggest_float("contrastive_weight", 0.5, 8.0, log=True)
        return params
    params = {"variant": critic, "critic": critic, "lr": trial.suggest_float("lr", 2e-4, 4e-3, log=True)}
    if critic == "tconv":
        params["critic_kernel"] = trial.suggest_int("critic_kernel", 3, 9, step=2)
    elif critic == "multiscale":
        params["critic_rates"] = trial.suggest_int("critic_rates", 1, 3)
    else:
        params["critic_starts"] = trial.suggest_int("critic_starts", 2, 8)
    return params


STUDY = Study(
    name="critic",
    space=space,
    recipe="tiny",
    controls=[
        *({"critic": design, "lr": 1e-3} | own for design, own in OWN.items()),
        *({"critic": design, "lr_frames": 1e-4} | own for design, own in OWN_FRAMES.items()),
    ],
    trials=8,
    objectives=(FVD_SHORT, FVD_LONG),
    grid={"critic": list(OWN), "seed": [0, 1]},
)

if __name__ == "__main__":
    main(STUDY)
