"""Plots of a model's report page, as PNG: the path of its codes, whether they return, and how they move.

Axes: n clip, T frame, K coordinate.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from svgan.metrics.loops import LoopJudge, autocorrelation
from svgan.metrics.motion_stats import motion_power, speeds

if TYPE_CHECKING:
    from matplotlib.axes import Axes

OURS, THEIRS = "#c2571a", "#27567b"  # generated, footage
SHOWN = ("generated", OURS), ("footage", THEIRS)
TRAJECTORY = 10.0  # seconds of a clip that a trajectory's panel shows
BANDS, SPEEDS = 40, 60  # of a spectrum; of a distribution of speeds


def trajectories(clips: np.ndarray, footage: np.ndarray, fps: float, panels: int = 4) -> bytes:
    """The first seconds of some clips [n, T, K] in the plane of the first two components, after one of the footage. All
    of the footage is grey in the background.
    """
    length = min(clips.shape[1], round(TRAJECTORY * fps))
    shown = [("footage", footage[0]), *((f"generated {k + 1}", clips[k]) for k in range(min(panels - 1, len(clips))))]
    paths = [clip[:length, :2] for _, clip in shown]
    behind = footage[..., :2].reshape(-1, 2)
    behind = behind[:: max(1, len(behind) // 3000)]
    every = np.concatenate([behind, *paths])
    low, high = every.min(0), every.max(0)
    margin = 0.05 * (high - low) + 1e-9

    def draw(axes: list[Axes]) -> None:
        from matplotlib.collections import LineCollection

        for axis, (name, _), path in zip(axes, shown, paths, strict=True):
            axis.scatter(behind[:, 0], behind[:, 1], s=2, color="0.86", linewidths=0)
            lines = LineCollection(np.stack([path[:-1], path[1:]], 1).tolist(), cmap="viridis", linewidths=1.3)
            lines.set_array(np.arange(len(path) - 1) / fps)
            axis.add_collection(lines)
            axis.plot(*path[0], "o", color="black", markersize=4)
            axis.set(title=name, xlabel="1st component", xlim=(low[0] - margin[0], high[0] + margin[0]))
            axis.set(ylim=(low[1] - margin[1], high[1] + margin[1]))
        axes[0].set_ylabel("2nd component")
        for axis in axes[1:]:
            axis.tick_params(labelleft=False)
        axes[0].figure.colorbar(lines, ax=axes, label="seconds", pad=0.01, aspect=30)

    return picture(draw, len(shown), (11, 3.1))


def motion(clips: np.ndarray, judge: LoopJudge) -> bytes:
    """Four panels of clips [n, T, K] and the footage: autocorrelation, speeds, spectrum, distance from the mean."""
    sides = [(name, colour, x) for (name, colour), x in zip(SHOWN, (clips, judge.footage), strict=True)]

    def draw(axes: list[Axes]) -> None:
        for panel, axis in zip((_returns, _speeds, _spectrum, _distance), axes, strict=True):
            panel(axis, sides, judge)
            axis.grid(color="0.92")
            axis.set_axisbelow(True)
        axes[0].legend(frameon=False)

    return picture(draw, 4, (11, 6.6), columns=2)


Sides = list[tuple[str, str, np.ndarray]]


def _returns(axis: Axes, sides: Sides, judge: LoopJudge) -> None:
    for name, colour, clips in sides:
        curves = np.stack([autocorrelation(clip) for clip in np.asarray(clips, np.float64)])
        _band(axis, np.arange(curves.shape[1]) / judge.fps, curves, colour, name)
    axis.axvline(1, color="0.6", linestyle=":", linewidth=1)
    axis.set(title="Does it return? Autocorrelation of the codes", xlabel="lag in seconds (a loop is 1 at its period)")
    axis.set(xlim=(0, judge.footage.shape[1] / judge.fps / 2))


def _speeds(axis: Axes, sides: Sides, judge: LoopJudge) -> None:
    unit = max(float(np.median(speeds(judge.footage))), 1e-12)
    values = [speeds(clips).ravel() / unit for _, _, clips in sides]
    top = max(float(np.quantile(some, 0.99)) for some in values)
    edges = np.linspace(0, max(top, 1e-6), SPEEDS)
    for (name, colour, _), some in zip(sides, values, strict=True):
        axis.hist(some, edges.tolist(), density=True, histtype="step", color=colour, linewidth=1.5, label=name)
    axis.set(
        title="How fast? Change of the codes from frame to frame", xlabel="in the footage's median", ylabel="density"
    )


def _spectrum(axis: Axes, sides: Sides, judge: LoopJudge) -> None:
    for name, colour, clips in sides:
        at, power = motion_power(clips, judge.fps)
        share = power.sum(0) / power.sum()
        edges = np.linspace(0, at[-1], BANDS + 1)
        mass, _ = np.histogram(at, edges, weights=share)
        axis.step(edges[:-1], mass / np.diff(edges), where="post", color=colour, linewidth=1.5, label=name)
    axis.set(title="How rhythmic? Spectrum of motion", xlabel="Hz", ylabel="share of the power per Hz", yscale="log")


def _distance(axis: Axes, sides: Sides, judge: LoopJudge) -> None:
    for name, colour, clips in sides:
        norms = np.linalg.norm(clips, axis=2) / judge.norm
        _band(axis, np.arange(norms.shape[1]) / judge.fps, norms, colour, name)
    axis.set(title="Does it drift? Distance from the footage's mean", xlabel="seconds", ylabel="in the footage's mean")
    axis.set(xlim=(0, judge.footage.shape[1] / judge.fps))


def _band(axis: Axes, at: np.ndarray, curves: np.ndarray, colour: str, name: str) -> None:
    low, middle, high = np.quantile(curves, (0.1, 0.5, 0.9), axis=0)
    axis.fill_between(at, low, high, color=colour, alpha=0.15, linewidth=0)
    axis.plot(at, middle, color=colour, linewidth=1.4, label=name)


def picture(draw: Callable[[list[Axes]], Any], panels: int, size: tuple[float, float], columns: int = 0) -> bytes:
    """A PNG of panels, in one row or in rows of `columns`."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = columns or panels
    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    draw(list(figure.subplots(-(-panels // columns), columns, squeeze=False).ravel()))
    out = io.BytesIO()
    figure.savefig(out, dpi=140, metadata={"Software": None})
    return out.getvalue()
