"""A study's plots, logged on its parent run: history, importance, and the metric against each parameter."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from optuna.trial import FrozenTrial, TrialState

if TYPE_CHECKING:
    import optuna
    from matplotlib.axes import Axes

COLOURS = {TrialState.COMPLETE: "tab:blue", TrialState.PRUNED: "tab:grey"}
LEAST_FOR_IMPORTANCE = 4


def write_plots(study: optuna.Study, metric: str, fvd: dict[int, float], folder: Path) -> list[Path]:
    """PNG files of what can be drawn: `fvd` maps trial numbers to FVD long. Stopped trials are drawn in grey."""
    trials = [t for t in study.get_trials(deepcopy=False) if t.state in COLOURS and t.values]
    if not trials:
        return []
    folder.mkdir(parents=True, exist_ok=True)
    written = [_figure(folder / "history.png", lambda axes: _history(axes, trials, metric))]
    values = {metric: {t.number: t.values[0] for t in trials}, "fvd_long": fvd}
    for name in sorted({name for trial in trials for name in trial.params}):
        for label, known in values.items():
            shown = [t for t in trials if name in t.params and t.number in known]
            if shown:
                path = folder / f"{label}_against_{name}.png"
                written.append(_figure(path, partial(_against, trials=shown, name=name, label=label, values=known)))
    weights = importance(study)
    if weights:
        written.append(_figure(folder / "importance.png", lambda axes: _bars(axes, weights)))
    return written


def importance(study: optuna.Study) -> dict[str, float]:
    """PED-ANOVA importance of the parameters (Watanabe et al. 2023); empty while too few trials have finished."""
    import optuna

    done = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if len(done) < LEAST_FOR_IMPORTANCE or len({t.value for t in done}) < 2:
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


def _history(axes: Axes, trials: list[FrozenTrial], metric: str) -> None:
    for trial in trials:
        points = sorted(trial.intermediate_values.items())
        if points:
            axes.plot(*zip(*points, strict=True), color=COLOURS[trial.state], lw=1)
            axes.annotate(str(trial.number), points[-1])
    axes.set(xlabel="generator step", ylabel=f"{metric}, best so far", yscale="log", title="trials (grey: stopped)")


def _against(axes: Axes, trials: list[FrozenTrial], name: str, label: str, values: dict[int, float]) -> None:
    for trial in trials:
        point = (trial.params[name], values[trial.number])
        axes.scatter(*point, color=COLOURS[trial.state])
        axes.annotate(str(trial.number), point)
    axes.set(xlabel=name, ylabel=label)


def _bars(axes: Axes, weights: dict[str, float]) -> None:
    axes.barh(list(weights), list(weights.values()))
    axes.set(xlabel="importance (PED-ANOVA)")
