"""`python -m sweeps domain`: log footage beside its reconstructions, with their figures, as an MLflow run.

The picture shows frames of the footage, so it goes to your own MLflow and nowhere else.
"""

from __future__ import annotations

import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from svgan.faces.original_frames import crop_size
from svgan.images.domain import Domain
from svgan.io.video_writer import write_png
from svgan.metrics.domain_report import Progress, measure_footage, pairs_sheet
from svgan.metrics.identity import FaceReader
from sweeps.storage.tag_names import ROLE

if TYPE_CHECKING:
    from mlflow import MlflowClient

SHOWN = 48  # frames in the picture


def log_domain(
    client: MlflowClient,
    experiment: str,
    domain: Domain,
    footage: Path,
    *,
    every: int = 5,
    progress: Progress = lambda stage, done, total: None,
) -> tuple[str, dict[str, float]]:
    """Reconstruct every `every`-th held-out frame of the footage; return the run's id and the figures."""
    found, frames, rebuilt = measure_footage(
        domain, footage, crop_size(domain), FaceReader(), every=every, shown=SHOWN, progress=progress
    )
    shown = {name: float(value) for name, value in asdict(found.figures()).items() if np.isfinite(value)}
    run = client.create_run(
        experiment, run_name=f"domain-{domain.digest[:8]}", tags={ROLE: "domain", "domain": domain.digest}
    )
    for name, value in shown.items():
        client.log_metric(run.info.run_id, name, value)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "frames_above_reconstructions.png")
        write_png(pairs_sheet(frames, rebuilt), path)
        client.log_artifact(run.info.run_id, str(path))
    client.set_terminated(run.info.run_id, "FINISHED")
    return run.info.run_id, shown
