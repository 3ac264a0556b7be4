"""A study's plots, logged on its parent run: history, importance, figures against each parameter, the Pareto front.

A conditional parameter is drawn from the trials that have it.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from optuna.trial import FrozenTrial, TrialState

from svgan.metrics.names import FVD_LONG, LATENT_FD
from sweeps.search.optuna_mirror import reports

if TYPE_CHECKING:
    import optuna
    from matplotlib.axes import Axes

COLOURS = {TrialState.COMPLETE: "tab:blue", TrialState.PRUNED: "tab:grey"}
FRONT = "tab:red"
LEAST_FOR_IMPORTANCE = 4


def write_plots(
    study: optuna.Study, fvd: Mapping[int, float], folder: Path, objectives: Sequence[str] = ()
) -> list[Path]:
    """Write PNG files of what can be drawn. Pruned trials are grey.

    fvd: maps trial numbers to FVD long. objectives: their names, if the study has several.
    """
    trials = [t for t in study.get_trials(deepcopy=False) if t.state in COLOURS and reports(t)]
    if not trials:
        return []
    folder.mkdir(parents=True, exist_ok=True)
    written = [_figure(folder / "history.png", lambda axes: _history(axes, trials))]
    values = {LATENT_FD: {t.number: min(reports(t).values()) for t in trials}, FVD_LONG: fvd}
    for name in sorted({name for trial in trials for name in trial.params}):
        for label, known in values.items():
            shown = [t for t in trials if name in t.params and t.number in known]
            if shown:
                path = folder / f"{label}_against_{name}.png"
                written.append(_figure(path, partial(_against, trials=shown, name=name, label=label, values=known)))
    weights = importance(study)
    if weights:
        written.append(_figure(folder / "importance.png", lambda axes: _bars(axes, weights)))
    done = [t for t in trials if t.state == TrialState.COMPLETE]
    for pair in itertools.combinations(range(len(objectives)), 2):
        if done:
            first, second = (objectives[at] for at in pair)
            path = folder / f"pareto_{first}_{second}.png"
            front = {t.number for t in study.best_trials}
            written.append(_figure(path, partial(_front, trials=done, front=front, pair=pair, labels=(first, second))))
    return written


def importance(study: optuna.Study) -> dict[str, float]:
    """PED-ANOVA importance of the parameters (Watanabe et al. 2023); empty while too few trials have finished.

    A conditional parameter is ranked within the trials that have it; with several objectives, importance is for
    reaching their front.
    """
    import optuna

    done = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if len(done) < LEAST_FOR_IMPORTANCE or len({tuple(t.values) for t in done}) < 2:
        return {}
    return optuna.importance.get_param_importances(study, evaluator=optuna.importance.PedAnovaImportanceEvaluator())


def _figure(path: Path, draw: Any) -> Path:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    FigureCanvasAgg(figure)
    draw(figure.add_subplot())
    figure.savefig(path, dpi=120)
    return path


def _history(axes: Axes, trials: list[FrozenTrial]) -> None:
    for trial in trials:
        points = sorted(reports(trial).items())
        axes.plot(*zip(*points, strict=True), color=COLOURS[trial.state], lw=1)
        axes.annotate(str(trial.number), points[-1])
    axes.set(xlabel="generator step", ylabel=f"{LATENT_FD}, best so far", yscale="log", title="trials (grey: stopped)")


def _against(axes: Axes, trials: list[FrozenTrial], name: str, label: str, values: Mapping[int, float]) -> None:
    numbers = all(isinstance(t.params[name], int | float) and not isinstance(t.params[name], bool) for t in trials)
    for trial in trials:
        point = (trial.params[name] if numbers else str(trial.params[name]), values[trial.number])
        axes.scatter(*point, color=COLOURS[trial.state])
        axes.annotate(str(trial.number), point)
    axes.set(xlabel=name, ylabel=label)


def _front(
    axes: Axes, trials: list[FrozenTrial], front: set[int], pair: tuple[int, int], labels: tuple[str, str]
) -> None:
    for trial in trials:
        point = (trial.values[pair[0]], trial.values[pair[1]])
        axes.scatter(*point, color=FRONT if trial.number in front else COLOURS[trial.state])
        axes.annotate(str(trial.number), point)
    axes.set(xlabel=labels[0], ylabel=labels[1], title="finished trials (red: the Pareto front)")


def _bars(axes: Axes, weights: dict[str, float]) -> None:
    axes.barh(list(weights), list(weights.values()))
    axes.set(xlabel="importance (PED-ANOVA)")
