"""Made footage codes for the random domain, with real-side moments at hand: a fixture of all rooms."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

TOY_DIMENSIONS = (6, 8)


def write_footage(folder: Path, domain: str, *, frames: int = 320, seed: int = 0) -> str:
    """Codes of two made videos: slow sines of a few directions, so that there is a motion to learn."""
    from svgan.latents.manifest import VideoCodes
    from svgan.latents.shards import write_latents

    draw = np.random.default_rng(seed)
    directions = draw.normal(size=(6, *TOY_DIMENSIONS)).astype(np.float32)

    def video(name: str) -> VideoCodes:
        time = np.arange(frames, dtype=np.float32)[:, None]
        waves = np.sin(2 * np.pi * time / draw.uniform(15, 60, 6) + draw.uniform(0, 6, 6)).astype(np.float32)
        codes = np.tensordot(waves, directions, 1) + 0.05 * draw.normal(size=(frames, *TOY_DIMENSIONS))
        return VideoCodes(name, np.arange(frames), codes.astype(np.float32))

    write_latents(str(folder), [video("a"), video("b")], domain=domain, fps=25.0, components=40)
    return str(folder)


def ship_moments(domain_folder: Path, latents_uri: str) -> None:
    """Put made real-side moments into the domain under their true name: measuring real ones would take minutes."""
    from svgan.images.domain import Domain
    from svgan.latents.shards import open_latents
    from svgan.metrics import fvd
    from svgan.metrics.moments import Moments
    from svgan.metrics.protocol import PROTOCOLS, usual_precision

    domain, latents = Domain.load(domain_folder), open_latents(latents_uri)
    protocol = dataclasses.replace(PROTOCOLS["svg-short"], precision=usual_precision("cpu"))
    made = Moments(400).update(np.random.default_rng(1).normal(size=(500, 400)))
    domain.moments_folder.mkdir(exist_ok=True)
    made.save(domain.moments_folder / fvd.moments_file(protocol, domain, latents, "wplus"), "float32")


@pytest.fixture(scope="session")
def footage(random_domain) -> tuple[str, str]:
    """Folder of the random domain and of codes made for it, with real moments at hand."""
    from svgan.images.domain import Domain

    latents = write_footage(random_domain / "latents", Domain.load(random_domain).digest)
    ship_moments(random_domain, latents)
    return str(random_domain), latents
