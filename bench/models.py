"""Models trained for a measurement, resumable: each in a run folder of its own, kept at the steps that are asked for.

gap_effect.py and ladder.py use it. Everything that was made stays in --folder, so that a cut run goes on.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from svgan.images.domain import Domain
from svgan.io.atomic import write_whole
from svgan.latents.shards import open_latents
from svgan.metrics.protocol import usual_precision
from svgan.reports.evaluation import assess, chosen
from svgan.runs.folder import CHECKPOINTS, RECORD, plan_run
from svgan.runs.loading import load_pair
from svgan.runs.training import train_run
from svgan.sampling.sampler import Sampler
from svgan.training.reporter import NullReporter


def trained(
    out: Path, recipe: str, overrides: dict[str, Any], steps: Sequence[int], device: torch.device
) -> list[Path]:
    """Checkpoints of one model at each of the steps, trained in legs, a cut leg from its last report; one that the run
    still has is not trained for again."""
    kept = []
    for until in sorted(steps):
        place = out.with_name(f"{out.name}-at-{until}")
        if not place.exists():
            reached = out / CHECKPOINTS / f"step-{until:08d}"
            if not reached.exists():
                resume = (out / RECORD).exists()
                fields = {**overrides, "steps": until}
                run = plan_run(
                    out, recipe, fields, domain=None, latents=None, report_every=max(1, min(steps) // 4), resume=resume
                )
                train_run(run, out, reporter=NullReporter(), device=device)
            aside = place.with_name(f".{place.name}.partial")
            shutil.rmtree(aside, ignore_errors=True)
            shutil.copytree(reached, aside)
            aside.rename(place)
        kept.append(place)
    return kept


def figures(
    checkpoint: Path, protocols: str, metrics: Sequence[str], clips: int, device: torch.device
) -> dict[str, dict[str, float | None]]:
    """What `svgan evaluate` measures of a checkpoint, kept beside it."""
    kept = checkpoint / f"figures-{protocols.replace(',', '+')}-{'+'.join(metrics)}-{clips}.json"
    if not kept.exists():
        sampler, domain = load_pair(checkpoint, "default", device)
        latents = open_latents(domain.latents_uri, domain=domain.digest)
        asked = chosen(protocols, clips, None, usual_precision(str(device)))
        told = assess(sampler, None, domain, latents, asked, metrics, seed=0, progress=lambda *far: None)
        with write_whole(kept) as aside:
            aside.write_text(json.dumps(told, indent=1) + "\n")
    return json.loads(kept.read_text())["figures"]


def sampler_of(checkpoint: Path, device: torch.device) -> tuple[Sampler, Domain]:
    return load_pair(checkpoint, "default", device)
