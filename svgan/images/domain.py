"""A domain: one folder with a generator, its encoder, a card, and the codes and moments of its footage.

    generator.safetensors  encoder.safetensors   float16 weights (computed with in float32)
    domain.json                                  sizes, figures, sources
    README.md                                    the model card
    latents/                                     W+ codes of the footage (svgan.latents)
    moments/                                     real-side I3D moments (svgan.metrics)

Axes: N picture, L W+ layer, D width of W, R the domain's resolution in pixels.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from svgan.errors import UserError
from svgan.files import whole
from svgan.images.encoder import Encoder
from svgan.images.stylegan2 import Generator, NoiseMode, StyleGAN2Config

DEFAULT = Path(__file__).parent.parent / "domains" / "talking_face"
FORMAT = 1


class Domain:
    """Frozen networks of one kind of picture. `digest` names the weights, and goes with every code made by them."""

    def __init__(self, folder: Path, generator: Generator, encoder: Encoder, facts: dict[str, Any], digest: str):
        self.folder, self.facts, self.digest = folder, facts, digest
        self.generator = generator.eval().requires_grad_(False)
        self.encoder = encoder.eval().requires_grad_(False)
        self.config = generator.config

    @classmethod
    def load(cls, name: str | Path = "default", device: str | torch.device = "cpu") -> Domain:
        """The domain of a folder; 'default' is the one this package carries.

        Raises UserError when the folder is no domain or a file in it is broken.
        """
        folder = DEFAULT if str(name) == "default" else Path(name)
        try:
            facts = json.loads((folder / "domain.json").read_text())
        except FileNotFoundError as error:
            raise UserError(f"{folder}: no domain here (domain.json is missing); give 'default' or a folder") from error
        except ValueError as error:
            raise UserError(f"{folder / 'domain.json'}: not valid JSON ({error}); restore the file") from error
        if facts.get("format") != FORMAT:
            raise UserError(f"{folder / 'domain.json'}: format {facts.get('format')}, this version reads {FORMAT}")
        config = StyleGAN2Config(**facts["generator"])
        generator = _fill(Generator(config), folder / "generator.safetensors")
        encoder = _fill(Encoder(config, **facts["encoder"]), folder / "encoder.safetensors")
        return cls(folder, generator, encoder, facts, folder_digest(folder)).to(device)

    def to(self, device: str | torch.device) -> Domain:
        self.generator.to(device)
        self.encoder.to(device)
        return self

    @property
    def device(self) -> torch.device:
        return self.generator.w_avg.device

    @property
    def latents_uri(self) -> str:
        """Where the codes of the domain's own footage lie."""
        return str(self.folder / "latents")

    @property
    def moments_folder(self) -> Path:
        return self.folder / "moments"

    @torch.no_grad()
    def render(self, codes: np.ndarray | Tensor, batch: int = 32, noise: NoiseMode = "const") -> np.ndarray:
        """W+ codes [N, L, D] to uint8 pictures [N, R, R, 3]."""
        codes = torch.as_tensor(codes, dtype=torch.float32)
        parts = [to_uint8(self.generator(c.to(self.device), noise)) for c in codes.split(batch)]
        return np.concatenate(parts) if parts else np.zeros((0, *(self.config.resolution,) * 2, 3), np.uint8)

    @torch.no_grad()
    def encode(self, pictures: np.ndarray, batch: int = 64) -> np.ndarray:
        """Aligned uint8 pictures [N, S, S, 3] to W+ codes float32 [N, L, D]; any S, resized to R."""
        parts = [
            self.encoder(to_network(chunk, self.config.resolution).to(self.device)).cpu()
            for chunk in torch.as_tensor(pictures).split(batch)
        ]
        return torch.cat(parts).numpy()


def to_network(pictures: np.ndarray | Tensor, resolution: int) -> Tensor:
    """uint8 [N, S, S, 3] to float32 [N, 3, R, R] in [-1, 1], antialiased where it shrinks."""
    x = torch.as_tensor(pictures).permute(0, 3, 1, 2).float() / 127.5 - 1
    if x.shape[-1] == resolution:
        return x
    if x.shape[-1] % resolution == 0:
        return F.avg_pool2d(x, x.shape[-1] // resolution)
    return F.interpolate(x, size=(resolution, resolution), mode="bilinear", antialias=True, align_corners=False)


def to_uint8(x: Tensor) -> np.ndarray:
    """[N, 3, R, R] in [-1, 1] to uint8 [N, R, R, 3]."""
    return ((x.float().clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1).contiguous().cpu().numpy()


def save_domain(folder: Path, generator: Generator, encoder: Encoder, facts: dict[str, Any]) -> Domain:
    """Write weights (float16) and facts; other files of the folder are left alone. domain.json comes last."""
    folder.mkdir(parents=True, exist_ok=True)
    for module, name in ((generator, "generator"), (encoder, "encoder")):
        tensors = {k: v.detach().half().cpu().contiguous() for k, v in module.state_dict().items()}
        with whole(folder / f"{name}.safetensors") as aside:
            save_file(tensors, aside)
    record = {
        "format": FORMAT,
        "generator": generator.config.to_json(),
        "encoder": {"widths": list(encoder.widths), "reduced": encoder.reduced},
        **facts,
    }
    with whole(folder / "domain.json") as aside:
        aside.write_text(json.dumps(record, indent=1) + "\n")
    return Domain.load(folder)


def folder_digest(folder: Path) -> str:
    """16 hex digits over the weights of both networks."""
    digest = hashlib.sha256()
    for name in ("generator.safetensors", "encoder.safetensors"):
        digest.update(hashlib.sha256((folder / name).read_bytes()).digest())
    return digest.hexdigest()[:16]


def _fill(module: nn.Module, path: Path) -> Any:
    """Load float16 weights into a float32 module, every name accounted for."""
    try:
        tensors = load_file(path)
        module.load_state_dict({k: v.float() for k, v in tensors.items()})
    except FileNotFoundError as error:
        raise UserError(f"{path}: missing; the domain folder is incomplete") from error
    except (SafetensorError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{path}: broken, or of other sizes than domain.json says ({reason})") from error
    return module
