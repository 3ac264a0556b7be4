"""ArcFace identity (Deng et al. 2019, arXiv:1801.07698), with a checkpoint of the user, because no package has one.

The network is the IR-SE-50 of InsightFace_Pytorch (`model_ir_se50.pth`), with which pSp and e4e compare identities. Its
backbone is that of their encoders (`svgan.images.psp_encoder`). Pictures are aligned as in FFHQ, and cropped as in
pSp's loss (eladrich/pixel2style2pixel, criteria/id_loss.py, read on 2026-11-22).

Axes: B picture, R pixels.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from svgan.errors import UserError
from svgan.images.psp_encoder import WIDTH, backbone
from svgan.io import torch_file
from svgan.metrics.features import FACE_CLIPS, FACE_FRAMES, Extractor, evenly

ALIGNED, TOP, LEFT, CROP = 256, 35, 32, 188  # the face's square in an aligned picture of 256 px
SIDE = 112
BATCH = 16


class ArcFace(nn.Module):
    """Map pictures [B, 3, 112, 112] in [-1, 1] to descriptors [B, 512] of length 1."""

    def __init__(self) -> None:
        super().__init__()
        self.input_layer, self.body = backbone()
        self.output_layer = nn.Sequential(
            nn.BatchNorm2d(WIDTH), nn.Identity(), nn.Flatten(), nn.Linear(WIDTH * 49, WIDTH), nn.BatchNorm1d(WIDTH)
        )

    def forward(self, pictures: Tensor) -> Tensor:
        return F.normalize(self.output_layer(self.body(self.input_layer(pictures))))


def load(path: Path, device: str | torch.device = "cpu") -> ArcFace:
    """Load the network of a checkpoint without executing any of its code. Raises UserError for any other or incomplete
    file.
    """
    tree = torch_file.read(path)
    if not isinstance(tree, Mapping):
        raise UserError(f"--arcface {path}: not a state_dict; give model_ir_se50.pth, which pSp's README names")
    weights = torch_file.tensors(tree, path)
    with torch.device("meta"):
        network = ArcFace()
    shapes = {name: value.shape for name, value in network.state_dict().items()}
    optional = {name for name in shapes if name.endswith("num_batches_tracked")}
    for name, shape in shapes.items():
        if name not in optional and (name not in weights or weights[name].shape != shape):
            found = f"is {list(weights[name].shape)}" if name in weights else "is missing"
            raise UserError(f"--arcface {path}: not an IR-SE-50: {name} {found}, needs {list(shape)}")
    made = {name: weights[name].float() for name in shapes if name not in optional}
    network.load_state_dict(made | {name: torch.zeros((), dtype=torch.long) for name in optional}, assign=True)
    return network.eval().requires_grad_(False).to(device)


def cropped(pictures: np.ndarray) -> Tensor:
    """Crop aligned uint8 [B, R, R, 3] as [B, 3, 112, 112] in [-1, 1]."""
    x = torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 127.5 - 1
    if x.shape[-1] != ALIGNED:
        x = F.interpolate(x, (ALIGNED, ALIGNED), mode="bilinear", align_corners=False, antialias=True)
    return F.adaptive_avg_pool2d(x[:, :, TOP : TOP + CROP, LEFT : LEFT + CROP], SIDE)


def extractor(path: Path, device: str | torch.device = "cpu") -> Extractor:
    """Make the extractor that `svgan.metrics.assess.Judge` takes as extractors["arcface"]."""
    network = load(path, device)

    @torch.inference_mode()
    def see(clips: np.ndarray) -> np.ndarray:
        few = np.concatenate([evenly(clip, FACE_FRAMES) for clip in clips])
        found = [network(cropped(few[at : at + BATCH]).to(device)).cpu() for at in range(0, len(few), BATCH)]
        return torch.cat(found).numpy().reshape(len(clips), FACE_FRAMES, -1)

    digest = hashlib.sha256(path.read_bytes()).hexdigest()[:12]
    return Extractor(see, f"{FACE_FRAMES} frames, arcface/{digest}", FACE_CLIPS)


def within(descriptors: np.ndarray) -> float:
    """Mean cosine between descriptors [T, 512] of a clip's frames, over all pairs."""
    alike = descriptors.astype(np.float64) @ descriptors.T.astype(np.float64)
    count = len(alike)
    return float((alike.sum() - np.trace(alike)) / (count * (count - 1)))


def to_subject(descriptors: np.ndarray, footage: np.ndarray) -> float:
    """Mean cosine between descriptors [T, 512] and the mean descriptor of the footage's [N, 512]."""
    subject = footage.astype(np.float64).mean(0)
    return float((descriptors @ (subject / np.linalg.norm(subject))).mean())
