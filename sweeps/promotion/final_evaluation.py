"""The final evaluation: a study's best few checkpoints are measured again, on many clips and several generation seeds.

A study's own FVD has few clips and one seed. It ranks trials, but cannot tell which of two good ones is better. The
final figure is the mean of FVD long over seeds, with Student's 95 % interval. MLflow keeps every seed's value on the
model, under the protocol's hash. So an interrupted promotion continues, and no model is measured twice.
"""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Any

from svgan.metrics.names import FVD_LONG
from svgan.metrics.protocol import PROTOCOLS
from sweeps.storage.life import StudySigns
from sweeps.storage.plan import Plan
from sweeps.storage.tag_names import PROTOCOL_LONG, STEP
from sweeps.tracking.client import Tracking

if TYPE_CHECKING:
    from mlflow.entities import LoggedModel

    from svgan.images.domain import Domain
    from svgan.metrics.assess import Judge
    from svgan.training.data import Material
    from sweeps.parallel.feature_pool import FeaturePool

FINALISTS = 3
FIGURE = FVD_LONG
SAME = ("domain", "pictures", "latents")  # tags of a model whose kept values are the study's own
MakePool = Callable[["Domain"], "FeaturePool | None"]


@dataclasses.dataclass(frozen=True)
class FinalFigure:
    """A model's final figure: its value for each generation seed."""

    model: LoggedModel
    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        return statistics.fmean(self.values)

    def __str__(self) -> str:
        """The mean, and its interval if there are several seeds."""
        from sweeps.trial.multi_seed import interval

        if len(self.values) < 2:
            return f"{self.mean:.4g}"
        _, low, high = interval(self.values)
        return f"{self.mean:.4g} ({low:.4g} to {high:.4g})"


def asked(plan: Plan) -> bool:
    """Whether the study's promotion needs more clips or seeds than its trials have."""
    return plan.judging.promotion_clips not in (0, plan.judging.clips) or plan.judging.promotion_seeds > 1


class FinalEvaluation:
    """The final judgement of a study's models, and of the champion that they challenge.

    make_pool: returns the pool that extracts features in a domain; None: this process extracts them.
    """

    def __init__(self, tracking: Tracking, plan: Plan, make_pool: MakePool | None = None):
        self.tracking, self.plan, self.make_pool, self.progress = tracking, plan, make_pool, StudySigns(plan)
        clips = plan.judging.promotion_clips or plan.judging.clips
        self.protocol = dataclasses.replace(PROTOCOLS["svg-long"], clips=clips, precision=plan.judging.precision)
        self.seeds = range(plan.search.seed, plan.search.seed + plan.judging.promotion_seeds)

    @property
    def rule(self) -> dict[str, str]:
        """The tags of a champion that this evaluation chose."""
        seeds = ",".join(map(str, self.seeds))
        return {
            PROTOCOL_LONG: self.protocol.hash,
            "clips": str(self.protocol.clips),
            "generation_seeds": seeds,
        }

    def evaluate(self, model: LoggedModel) -> FinalFigure:
        """Return the model's final figure; measure the seeds that have no value yet."""
        own = all(model.tags.get(name) == self.plan.tags.get(name) for name in SAME)
        known = {metric.key: metric.value for metric in model.metrics or []} if own else {}
        values = []
        for seed in self.seeds:
            name = f"{FIGURE}/{self.protocol.hash}/generation-{seed}"
            if name not in known:
                known[name] = self._measured(model, seed)
                if own:
                    self._log(model, name, known[name])
            values.append(known[name])
        return FinalFigure(model, tuple(values))

    def _measured(self, model: LoggedModel, seed: int) -> float:
        from svgan.sampling.judged_pictures import prepare_for_judges
        from svgan.sampling.sampler import Sampler
        from sweeps.promotion.model_store import downloaded

        uri = f"models:/{model.model_id}"
        print(f"measuring FVD long of {uri} on {self.protocol.clips} clips of seed {seed} ...", flush=True)
        with downloaded(self.plan.output.tracking, uri) as folder:
            sampler = prepare_for_judges(Sampler.load(folder, self._judge.domain.device), self._material)
        value = self._judge.measure(sampler, seed).statistics[FIGURE].plain
        assert value is not None
        return value

    @cached_property
    def _judge(self) -> Judge:
        from svgan.metrics.assess import Judge

        domain = self._material.domain
        pool: Any = self.make_pool(domain) if self.make_pool else None
        return Judge(
            self.protocol,
            domain,
            self._material.latents,
            strict=False,
            spread=pool.extractor if pool else None,
            progress=self.progress,
        )

    @cached_property
    def _material(self) -> Material:
        from sweeps.promotion.model_store import at_hand

        return at_hand(self.plan)[0]

    def _log(self, model: LoggedModel, name: str, value: float) -> None:
        from mlflow.entities import Metric

        at = Metric(name, value, int(time.time() * 1000), int(model.tags[STEP]), model_id=model.model_id)
        self.tracking.client.log_batch(str(model.source_run_id), metrics=[at])
