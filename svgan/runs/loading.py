"""Load a trained model from a run folder or a checkpoint, with the domain and the codes that belong to it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from svgan.errors import UserError
from svgan.images.domain import Domain
from svgan.latents.shards import open_latents
from svgan.runs.folder import CHECKPOINTS, RECORD, Run
from svgan.sampling.judged_pictures import prepare_for_judges
from svgan.sampling.sampler import Sampler
from svgan.training.checkpoint_manager import FolderKeeper
from svgan.training.data import BESIDE, Material


def find_checkpoint(path: Path) -> Path:
    """Return the checkpoint that `path` means: itself, or the best one of a run folder."""
    if (path / RECORD).exists():
        best = FolderKeeper(path / CHECKPOINTS).best()
        if best is None:
            raise UserError(f"{path}: this run has no checkpoint yet; wait for its first report, or resume it")
        return best
    return path


def find_run(path: Path) -> Run | None:
    """Return the run of a folder or of a checkpoint in it; None for a checkpoint that lies elsewhere."""
    for folder in (path, path.parent.parent):
        if (folder / RECORD).exists():
            return Run.load(folder)
    return None


def choose_domain(path: Path, given: str | None) -> str:
    """Return the domain to render a checkpoint with: the one given, else its run's, else the default."""
    run = find_run(path)
    return given or ("default" if run is None else run.pictures or run.domain)


def choose_latents(path: Path, given: str | None, domain: Domain) -> str:
    """Return the codes that a checkpoint was trained on: those given, else its run's, else the domain's own."""
    run = find_run(path)
    return given or (domain.latents_uri if run is None else run.latents)


def load_pair(path: Path, domain_name: str | None, device: torch.device) -> tuple[Sampler, Domain]:
    """The sampler of a run folder or checkpoint, and its domain. Raises UserError when they do not belong together."""
    sampler = Sampler.load(find_checkpoint(path), device)
    name = choose_domain(path, domain_name)
    domain = Domain.load(name, device)
    theirs = sampler.meta.get("domain")
    if theirs != domain.digest:
        raise UserError(f"{path}: trained on codes of domain {theirs}, {name!r} is {domain.digest}; give its --domain")
    return sampler, domain


def load_judged(
    path: Path,
    domain_name: str | None,
    latents: str | None,
    footage: Sequence[str] | None,
    device: torch.device,
) -> tuple[Sampler, Material]:
    """The sampler of a run folder or checkpoint, prepared for the judges, and what it is measured against.

    latents: the codes to compare with, by default the run's. footage: the videos behind those codes; an empty list
    stands for the recorded frames kept beside them.
    """
    sampler, rendering = load_pair(path, domain_name, device)
    run = find_run(path)
    pair = run is not None and run.pictures is not None
    domain = Domain.load(run.domain, device) if run is not None and pair else rendering
    codes = open_latents(choose_latents(path, latents, domain), domain=domain.digest)
    videos = () if footage is None else tuple(map(str, footage)) or (BESIDE,)
    material = Material(domain=domain, latents=codes, pictures=rendering if pair else None, videos=videos)
    return prepare_for_judges(sampler, material), material
