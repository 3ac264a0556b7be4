"""Which critic? The paper's temporal convolutions, patches at two rates, or sparse frames with their differences.

    python sweeps/critic.py                                this machine, the embedded default footage
    python sweeps/critic.py --grid critic=tconv,holistic --seeds 3   a table: mean and interval of three seeds

It runs on this machine, or on the Ray cluster that RAY_ADDRESS or a `ray start` on this host names.
Trials 0 to 2 are controls, each design as the recipe has it; they always finish. TPE pairs a design with a learning
rate and with what only that design has: the frames under a convolution, the number of rates, the triples per span.

Cost: three controls finish, so 15 to 20 min on two cores.
Expect: three FVD figures to compare; no design is known beforehand to win on codes.
"""

from sweeps.study import Study, main


def space(trial):
    critic = trial.suggest_categorical("critic", ["tconv", "multiscale", "holistic"])
    params = {"critic": critic, "lr": trial.suggest_float("lr", 2e-4, 4e-3, log=True)}
    if critic == "tconv":
        params["critic_kernel"] = trial.suggest_int("critic_kernel", 3, 9, step=2)
    elif critic == "multiscale":
        params["critic_rates"] = trial.suggest_int("critic_rates", 1, 3)
    else:
        params["critic_starts"] = trial.suggest_int("critic_starts", 2, 8)
    return params


OWN = {"tconv": {"critic_kernel": 5}, "multiscale": {"critic_rates": 2}, "holistic": {"critic_starts": 4}}
STUDY = Study(
    name="critic",
    space=space,
    recipe="tiny",
    controls=[{"critic": design, "lr": 1e-3} | own for design, own in OWN.items()],
    grid={"critic": list(OWN), "seed": [0, 1]},
)

if __name__ == "__main__":
    main(STUDY)
