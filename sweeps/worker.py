"""What each worker of a trial runs: svgan's own loop, reporting to Ray and MLflow, and at the end FVD and a clip."""

from __future__ import annotations

import math
import shutil
import tempfile
from pathlib import Path
from typing import Any

import ray.train
import torch

from svgan import checkpoint
from svgan.config import RunConfig
from svgan.distributed import SINGLE, current_process
from svgan.errors import NonFiniteLoss, UserError
from svgan.images.domain import Domain
from svgan.latents.clips import ClipSource
from svgan.latents.shards import Latents, open_latents
from svgan.latents.stats import make_space
from svgan.runs import latent_judge
from svgan.sample import Sampler
from svgan.state import State
from svgan.train import train
from sweeps.artifacts import FIGURES, export_generator, log_clip, log_sheet, score
from sweeps.ends import FINISHED
from sweeps.plan import Plan
from sweeps.search import STEP
from sweeps.table import STEPS_DONE
from sweeps.tracking import TrialLog
from sweeps.trial import FAILED

STATE, BEST = "state", "best"


def train_loop(config: dict[str, Any]) -> dict[str, Any]:
    """One worker's whole life; rank 0's return value is the trial's outcome.

    What all ranks agree on (a loss that is not finite; on a single worker also bad input) is returned as `failed`,
    so that it is not retried; anything else raises, and Ray Train starts the workers again from the checkpoint.
    """
    world = ray.train.get_context().get_world_size()
    try:
        return _train_loop(config, world)
    except NonFiniteLoss as error:
        return {FAILED: f"NonFiniteLoss: {error}"}
    except UserError as error:
        if world > 1:
            raise
        return {FAILED: str(error)}


def _train_loop(config: dict[str, Any], world: int) -> dict[str, Any]:
    plan = Plan.from_json(config["plan"])
    device = _device(plan)
    run = RunConfig.from_json(config["run"])
    domain = Domain.load(plan.domain, device)
    latents = open_latents(plan.latents, domain=domain.digest)
    clips = ClipSource(latents, run.window, make_space(run.space, latents, run.components), device)
    plan.scratch.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=plan.scratch) as folder:
        scratch, first = Path(folder), ray.train.get_context().get_world_rank() == 0
        reporter = RankZeroReporter(config, plan, domain, scratch) if first else OtherRanksReporter()
        state = train(
            run,
            clips,
            state=restored(scratch, device),
            meta={"domain": domain.digest, "latents": latents.digest, "fps": latents.manifest.fps},
            reporter=reporter,
            process=current_process(device) if world > 1 else SINGLE,
            evaluate=latent_judge(clips, run.seed),
            report_every=plan.report_every,
            device=device,
        )
        return reporter.finish(state, latents) if isinstance(reporter, RankZeroReporter) else {}


def _device(plan: Plan) -> torch.device:
    torch.set_num_threads(max(1, int(plan.cpus_per_worker)))
    if not plan.gpus_per_worker:
        return torch.device("cpu")
    from ray.train.torch import get_device

    return get_device()


def restored(scratch: Path, device: torch.device) -> State | None:
    """The state of the trial's last checkpoint, its best generator put back into scratch; None at a first start."""
    kept = ray.train.get_checkpoint()
    if kept is None:
        return None
    with kept.as_directory() as folder:
        if Path(folder, BEST).exists():
            shutil.copytree(Path(folder, BEST), scratch / BEST)
        return checkpoint.load(Path(folder, STATE), device)


def figures_so_far(history: list[dict[str, float]]) -> dict[str, float]:
    """The last step and latent_fd, and the least latent_fd with its step."""
    best = min(history, key=lambda report: report["latent_fd"])
    return {
        STEP: int(history[-1]["step"]),
        "latent_fd": history[-1]["latent_fd"],
        "latent_fd_best": best["latent_fd"],
        "best_step": int(best["step"]),
    }


class OtherRanksReporter:
    """Ranks above 0 only take their part in Ray's collective report."""

    def report(self, step: int, metrics: dict[str, float], state: State) -> None:
        ray.train.report({STEP: step})


class RankZeroReporter:
    """Rank 0: figures to MLflow by step, a model per improvement, the whole state to Ray Train as its checkpoint.

    What Ray keeps holds both the state and the best generator so far, so that a restart needs nothing else.
    """

    def __init__(self, config: dict[str, Any], plan: Plan, domain: Domain, scratch: Path) -> None:
        self.plan, self.domain, self.scratch, self.params = plan, domain, scratch, config["params"]
        self.log = TrialLog(plan.tracking, config["experiment_id"], config["run_id"], plan.name, config["number"])

    def report(self, step: int, metrics: dict[str, float], state: State) -> None:
        if not math.isfinite(metrics["latent_fd"]):
            raise UserError(f"latent_fd at step {step} is {metrics['latent_fd']}; the generator has diverged")
        so_far, model = figures_so_far(state.history), None
        folder = self.scratch / "report"
        checkpoint.save(state, folder / STATE)
        if so_far["best_step"] == step:
            export_generator(folder / STATE, self.scratch / BEST)
            model = self.log.model(step, self.scratch / BEST, self.plan.tags, self.params)
        figures = {**metrics, "latent_fd_best": so_far["latent_fd_best"], STEPS_DONE: step}
        self.log.metrics(step, figures, model)
        if step in self.plan.rungs and step < state.config.steps:
            log_sheet(self.log, Sampler.of(state), self.domain, state.config.window, self.plan.seed, self.scratch)
        shutil.copytree(self.scratch / BEST, folder / BEST)
        ray.train.report(so_far, checkpoint=ray.train.Checkpoint.from_directory(folder))
        shutil.rmtree(folder)

    def finish(self, state: State, latents: Latents) -> dict[str, Any]:
        """Score the trial's best generator, log a clip of it, and say the outcome."""
        outcome = figures_so_far(state.history)
        sampler = Sampler.load(self.scratch / BEST, state.device)
        log_clip(self.log, sampler, self.domain, self.plan.seed, self.scratch)
        if self.plan.clips:
            figures = self.log.figures(FIGURES)
            if not figures:
                figures = score(sampler, self.domain, latents, self.plan, state.device)
                self.log.metrics(int(outcome["best_step"]), figures, self.log.made.get(int(outcome["best_step"])))
            outcome |= figures
        return {**outcome, FINISHED: True}
