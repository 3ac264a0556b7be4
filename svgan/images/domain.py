"""A domain: one folder with a generator, its encoder, a card, and the codes and moments of its footage.

    generator.safetensors  encoder.safetensors   weights: float16 of a domain trained here, float32 of an imported one
    domain.json                                  sizes, figures, sources, the weights' digests
    README.md                                    the model card
    latents/                                     W+ codes of the footage (svgan.latents)
    moments/                                     real-side I3D moments (svgan.metrics)

An imported generator may lack encoder, codes and moments; it then renders codes that are made elsewhere. All
computation is in float32.

Axes: N picture, L W+ layer, D width of W, R the domain's resolution in pixels, S the encoder's.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from svgan.errors import UserError
from svgan.images.encoder import Encoder
from svgan.images.psp_encoder import SIDE, PSPEncoder
from svgan.images.stylegan2 import Generator, NoiseMode, StyleGAN2Config
from svgan.io.atomic import write_whole
from svgan.torch_utils.malloc import keep_memory

DEFAULT = Path(__file__).parent.parent / "domains" / "talking_face"
FORMAT = 1
GENERATOR, ENCODER = "generator.safetensors", "encoder.safetensors"
ALIGNMENT = "ffhq"  # svgan.faces.alignment's: the one there is
RENDERED = 2**21  # pixels of a batch: a layer's activations stay below 0.3 GB


class Domain:
    """Frozen networks of one kind of picture. `digest` identifies the weights, and is stored with every code made by
    them.
    """

    def __init__(self, folder: Path, generator: Generator, facts: dict[str, Any], digest: str):
        self.folder, self.facts, self.digest = folder, facts, digest
        self.generator = generator.eval().requires_grad_(False)
        self.config = generator.config

    @classmethod
    def load(cls, name: str | Path = "default", device: str | torch.device = "cpu") -> Domain:
        """Load the domain of a folder; 'default' is the one in this package.

        Raises UserError if the folder is no domain, or a file in it is broken or belongs to another domain. The encoder
        is read on first use: pSp's has 1.1 GB.
        """
        folder = DEFAULT if str(name) == "default" else Path(name)
        try:
            facts = json.loads((folder / "domain.json").read_text())
            if facts.get("format") != FORMAT:
                raise UserError(f"{folder / 'domain.json'}: format {facts.get('format')}, this version reads {FORMAT}")
            config, _ = StyleGAN2Config(**facts["generator"]), facts["encoder"]
        except (FileNotFoundError, NotADirectoryError) as error:
            raise UserError(f"{folder}: no domain here (domain.json is missing); give 'default' or a folder") from error
        except (ValueError, AttributeError, KeyError, TypeError) as error:
            raise UserError(f"{folder / 'domain.json'}: not a domain's record ({error}); restore the file") from error
        with torch.device("meta"):
            generator = Generator(config)
        _fill(generator, folder / GENERATOR, facts)
        return cls(folder, generator, facts, _digest(folder, facts)).to(device)

    def to(self, device: str | torch.device) -> Domain:
        self.generator.to(device)
        if "encoder" in self.__dict__:
            self.encoder.to(device)
        return self

    @cached_property
    def encoder(self) -> Encoder | PSPEncoder:
        """The encoder: pictures [N, 3, S, S] in [-1, 1] to codes. Raises UserError if the domain has none."""
        sizes = self._encoder_sizes()
        with torch.device("meta"):
            made = PSPEncoder(**sizes) if "kind" in sizes else Encoder(self.config, **sizes)
        _fill(made, self.folder / ENCODER, self.facts)
        return made.eval().requires_grad_(False).to(self.device)

    def _encoder_sizes(self) -> dict[str, Any]:
        if self.facts["encoder"] is None:
            raise UserError(
                f"{self.folder}: has no encoder, so nothing can be embedded in it; import the generator again, with "
                "--encoder and a pSp or e4e checkpoint made for it, into a new folder"
            )
        return self.facts["encoder"]

    @property
    def side(self) -> int:
        """S, the side in pixels of the encoder's crops; without an encoder, the domain's resolution."""
        return SIDE if "kind" in (self.facts["encoder"] or {}) else self.config.resolution

    @property
    def alignment(self) -> str:
        """The rule by which crops for the encoder are cut from a frame; `svgan embed` supports ALIGNMENT."""
        return self.facts.get("alignment", ALIGNMENT)

    def check_embeds(self) -> None:
        """Raises UserError if footage cannot be embedded: without an encoder, or with one for other crops than ours."""
        self._encoder_sizes()
        if self.alignment != ALIGNMENT:
            raise UserError(
                f"{self.folder}: its encoder is made for the alignment of {self.alignment}, and svgan embed aligns "
                f"faces alone ({ALIGNMENT}); import the generator with an encoder for faces"
            )

    @property
    def device(self) -> torch.device:
        return self.generator.w_avg.device

    @property
    def latents_uri(self) -> str:
        """The place of the codes of the domain's own footage. Raises UserError for an imported domain, which
        has none.
        """
        if "imported" in self.facts and not (self.folder / "latents").exists():
            raise UserError(
                f"{self.folder}: an imported domain has no codes of its own; make some of footage (svgan embed), and "
                "give them as --latents"
            )
        return str(self.folder / "latents")

    @property
    def moments_folder(self) -> Path:
        return self.folder / "moments"

    def render(self, codes: np.ndarray | Tensor, batch: int | None = None, noise: NoiseMode = "const") -> np.ndarray:
        """Render W+ codes [N, L, D] as uint8 pictures [N, R, R, 3]. batch: pictures at once (32, fewer of large
        ones).
        """
        return render_batches(
            lambda some: self.generator(some, noise), codes, self.config.resolution, self.device, batch
        )

    @torch.no_grad()
    def encode(
        self, pictures: np.ndarray, batch: int | None = None, report: Callable[[int], None] = lambda done: None
    ) -> np.ndarray:
        """Encode aligned uint8 pictures [N, any, any, 3], resized to S, as W+ codes float32 [N, L, D].

        report: is called with the number of pictures done.
        """
        side = self.encoder.side
        batch = batch or min(64, max(1, RENDERED // 4 // side**2))
        parts: list[Tensor] = []
        for chunk in torch.as_tensor(pictures).split(batch):
            parts.append(self.encoder(to_network(chunk, side).to(self.device)).cpu())
            report(sum(map(len, parts)))
        return torch.cat(parts).numpy()


@torch.no_grad()
def render_batches(
    pictures: Callable[[Tensor], Tensor],
    codes: np.ndarray | Tensor,
    resolution: int,
    device: torch.device,
    batch: int | None = None,
) -> np.ndarray:
    """Render codes [N, ...] in batches as uint8 pictures [N, R, R, 3]. network: a batch of codes to pictures [n, 3, R,
    R].

    Raises UserError for pictures with NaN, which would be black as bytes.
    """
    if device.type == "cpu":
        keep_memory()
    codes = torch.as_tensor(codes, dtype=torch.float32)
    batch = batch or min(32, max(1, RENDERED // resolution**2))
    parts = []
    for some in codes.split(batch):
        made = pictures(some.to(device))
        if not made.isfinite().all():
            raise UserError(
                "the generator makes pictures that are no numbers (NaN or infinite): its weights or the codes are "
                "damaged; take another checkpoint, or import the domain again"
            )
        parts.append(to_uint8(made))
    return np.concatenate(parts) if parts else np.zeros((0, resolution, resolution, 3), np.uint8)


def to_network(pictures: np.ndarray | Tensor, resolution: int) -> Tensor:
    """uint8 [N, S, S, 3] to float32 [N, 3, R, R] in [-1, 1], antialiased if it shrinks."""
    x = torch.as_tensor(pictures).permute(0, 3, 1, 2).float() / 127.5 - 1
    if x.shape[-1] == resolution:
        return x
    if x.shape[-1] % resolution == 0:
        return F.avg_pool2d(x, x.shape[-1] // resolution)
    return F.interpolate(x, size=(resolution, resolution), mode="bilinear", antialias=True, align_corners=False)


def to_uint8(x: Tensor) -> np.ndarray:
    """[N, 3, R, R] in [-1, 1] to uint8 [N, R, R, 3]."""
    return ((x.float().clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1).contiguous().cpu().numpy()


def save_domain(
    folder: Path,
    generator: Generator,
    encoder: Encoder | PSPEncoder | None,
    facts: dict[str, Any],
    precision: torch.dtype = torch.float16,
) -> Domain:
    """Write weights, in `precision`, and facts. Other files of the folder stay. domain.json is written last."""
    weights = {}
    with ExitStack() as files:
        for module, name in ((generator, GENERATOR), (encoder, ENCODER)):
            if module is not None:
                aside = files.enter_context(write_whole(folder / name))
                save_file({k: _stored(v, precision) for k, v in module.state_dict().items()}, aside)
                weights[name] = _sha256(aside)
    record = {
        "format": FORMAT,
        "generator": generator.config.to_json(),
        "encoder": encoder.to_json() if encoder else None,
        "alignment": ALIGNMENT,
        **facts,
        "weights": weights,
    }
    with write_whole(folder / "domain.json") as aside:
        aside.write_text(json.dumps(record, indent=1) + "\n")
    return Domain.load(folder)


def _stored(value: Tensor, precision: torch.dtype) -> Tensor:
    value = value.detach().cpu().contiguous()
    return value.to(precision) if value.is_floating_point() else value


def _digest(folder: Path, facts: dict[str, Any]) -> str:
    """16 hex digits over the weights of both networks and, for an imported domain, the settings of its networks."""
    digest = hashlib.sha256()
    for name in (GENERATOR, ENCODER) if facts["encoder"] else (GENERATOR,):
        known = facts.get("weights", {}).get(name)
        digest.update(bytes.fromhex(known or _sha256(folder / name)))
    if "imported" in facts:
        made = {key: facts.get(key) for key in ("generator", "encoder", "alignment")}
        digest.update(json.dumps(made, sort_keys=True).encode())
    return digest.hexdigest()[:16]


def _sha256(path: Path) -> str:
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError as error:
        raise UserError(f"{path}: missing; the domain folder is incomplete") from error


def _fill(module: nn.Module, path: Path, facts: dict[str, Any]) -> None:
    """Load weights into a module, in float32; every name must be accounted for."""
    known = facts.get("weights", {}).get(path.name)
    if known is not None and _sha256(path) != known:
        raise UserError(
            f"{path}: changed since it was made (its digest is not domain.json's); restore it, or make or "
            "import the domain again"
        )
    try:
        tensors = load_file(path)
        module.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in tensors.items()}, assign=True)
    except FileNotFoundError as error:
        raise UserError(f"{path}: missing; the domain folder is incomplete") from error
    except (SafetensorError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{path}: broken, or of other sizes than domain.json says ({reason})") from error
