"""How MLflow loads a champion: `mlflow.pyfunc.load_model("models:/NAME@champion").predict({"clips": 1})`.

The model's MLmodel file names this module; nothing is unpickled. Its folder holds the generator (safetensors and
JSON) and, once promoted, the domain that renders it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from svgan.errors import UserError
from sweeps.promotion.model_store import DOMAIN

DEFAULTS = {"clips": 1, "frames": 250, "seed": 0}


class Champion:
    """A generator with its domain: it takes seeds and returns frames."""

    def __init__(self, folder: Path) -> None:
        import torch

        from svgan.images.domain import Domain
        from svgan.sampling.sampler import Sampler

        device = "cuda" if torch.cuda.is_available() else "cpu"
        self.sampler = Sampler.load(folder, device)
        wanted = self.sampler.meta.get("domain")
        self.domain = Domain.load(folder / DOMAIN if (folder / DOMAIN).exists() else "default", device)
        if self.domain.digest != wanted:
            raise UserError(
                f"{folder}: made for domain {wanted}, at hand is {self.domain.digest}; promote it, then it has its own"
            )

    @property
    def fps(self) -> float:
        return float(self.sampler.meta.get("fps", 25))

    def predict(self, model_input: Any, params: dict[str, Any] | None = None) -> np.ndarray:
        """Frames uint8 [clips, frames, R, R, 3].

        model_input: a dict or a one-row DataFrame with any of clips (1), frames (250), seed (0).
        Raises UserError for other fields, several rows or a count below 1.
        """
        from sweeps.trial.artifacts import frames_of

        asked = {**DEFAULTS, **_fields(model_input), **(params or {})}
        if unknown := sorted(set(asked) - set(DEFAULTS)):
            raise UserError(f"predict: {unknown[0]} is unknown; give any of {', '.join(DEFAULTS)}")
        if asked["clips"] < 1 or asked["frames"] < 1:
            raise UserError("predict: clips and frames must be at least 1")
        return frames_of(self.sampler, self.domain, asked["clips"], asked["frames"], asked["seed"])


def _fields(model_input: Any) -> dict[str, int]:
    if hasattr(model_input, "to_dict"):
        rows = model_input.to_dict("records")
        if len(rows) != 1:
            raise UserError(f"predict: one row at a time, got {len(rows)}")
        model_input = rows[0]
    return {str(name): int(np.asarray(value).item()) for name, value in (model_input or {}).items()}


def _load_pyfunc(path: str) -> Champion:
    """MLflow's hook: `path` is the model's folder."""
    return Champion(Path(path))
