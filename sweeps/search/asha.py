"""ASHA, the asynchronous successive halving algorithm (Li et al. 2020): which trials are pruned at a rung.

At each rung, a trial continues if its value is among the best 1/reduction of all that reached the rung, itself
included; at least one continues. Values are running minima, because those of a GAN are not monotone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sweeps.record.state import StudyState


def prunes(state: StudyState, number: int, step: int, value: float, *, rungs: Sequence[int], reduction: int) -> bool:
    """Whether a report that `state` does not have yet ends the trial; the highest rung that it reaches decides.

    Controls are never pruned, but they count at every rung.
    """
    trial = state.trials[number]
    rung = highest_new(rungs, trial.reports, step)
    if rung is None or trial.proposal.control:
        return False
    others = [value_at(rung, other.reports) for other in state.trials if other.number != number]
    return not among_best([one for one in others if one is not None], value, reduction)


def highest_new(rungs: Sequence[int], reports: Mapping[int, float], step: int) -> int | None:
    """The highest rung that a report at this step reaches and that no report before it has reached."""
    return max((rung for rung in rungs if step >= rung and not any(at >= rung for at in reports)), default=None)


def value_at(rung: int, reports: Mapping[int, float]) -> float | None:
    """The value of the first report at the rung or behind it; None if there is none."""
    step = min((at for at in reports if at >= rung), default=None)
    return None if step is None else reports[step]


def among_best(others: Sequence[float], value: float, reduction: int) -> bool:
    """Whether the value is among the best 1/reduction of all, itself included; at least one is."""
    ranked = sorted([*others, value])
    return value <= ranked[max(1, len(ranked) // reduction) - 1]
