"""The encoders of pSp (Richardson et al. 2021) and e4e (Tov et al. 2021): an aligned face to its W+ codes.

An IR-SE-50 backbone (ArcFace's ResNet with squeeze and excitation) gives maps of 64, 32 and 16 px. A pyramid adds the
coarse maps to the fine ones. One head per W+ layer strides its map down to a code: layers 0 to 2 from the coarse map, 3
to 6 from the middle one, the others from the fine one. In pSp a head's output is the code. In e4e head 0 gives a base,
to which the others add. Both are relative to the generator's average code.

Parameters have the names of their checkpoints without `encoder.`, so that every name of a file finds its place.

Axes: B picture, L W+ layer, D width of W (512).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from svgan.errors import UserError
from svgan.images.foreign_generators import has_encoder, seen, without_prefix
from svgan.images.stylegan2 import EqualLinear
from svgan.io.torch_file import tensors

Kind = Literal["psp", "e4e"]
KINDS: dict[str, Kind] = {"GradualStyleEncoder": "psp", "Encoder4Editing": "e4e"}  # by opts.encoder_type
SIDE, WIDTH = 256, 512  # pixels of the pictures; D
STAGES = ((64, 3), (128, 4), (256, 14), (512, 3))  # of the backbone: width, blocks, the first of them strided
FINE, MIDDLE = 6, 20  # blocks whose maps go into the pyramid beside the last one's
COARSE_HEADS, MIDDLE_HEADS = 3, 7  # heads before these numbers read the coarse, the middle map


class _Gate(nn.Module):
    """Squeeze and excitation: scale each channel by a function of all channels' means."""

    def __init__(self, channels: int):
        super().__init__()
        self.fc1 = nn.Conv2d(channels, channels // 16, 1, bias=False)
        self.fc2 = nn.Conv2d(channels // 16, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.fc2(F.relu(self.fc1(x.mean((2, 3), keepdim=True)))).sigmoid()


class _Block(nn.Module):
    """A residual block of the backbone."""

    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.stride = stride
        self.shortcut_layer: nn.Module | None = None
        if inputs != outputs:
            self.shortcut_layer = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )
        self.res_layer = nn.Sequential(
            nn.BatchNorm2d(inputs),
            nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
            nn.PReLU(outputs),
            nn.Conv2d(outputs, outputs, 3, stride, 1, bias=False),
            nn.BatchNorm2d(outputs),
            _Gate(outputs),
        )

    def forward(self, x: Tensor) -> Tensor:
        passed = x[..., :: self.stride, :: self.stride] if self.shortcut_layer is None else self.shortcut_layer(x)
        return self.res_layer(x) + passed


class _Head(nn.Module):
    """A map of `side` px to a code."""

    def __init__(self, side: int):
        super().__init__()
        layers: list[nn.Module] = []
        for _ in range(int(math.log2(side))):
            layers += [nn.Conv2d(WIDTH, WIDTH, 3, stride=2, padding=1), nn.LeakyReLU(0.01)]
        self.convs = nn.Sequential(*layers)
        self.linear = EqualLinear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(self.convs(x).flatten(1))


def backbone() -> tuple[nn.Sequential, nn.Sequential]:
    """The first layer, and the blocks, which reduce pictures to maps of a sixteenth of their side and width 512."""
    inputs = STAGES[0][0]
    first = nn.Sequential(nn.Conv2d(3, inputs, 3, padding=1, bias=False), nn.BatchNorm2d(inputs), nn.PReLU(inputs))
    blocks = []
    for width, count in STAGES:
        blocks += [_Block(inputs, width, 2)] + [_Block(width, width, 1) for _ in range(count - 1)]
        inputs = width
    return first, nn.Sequential(*blocks)


class PSPEncoder(nn.Module):
    """Pictures [B, 3, 256, 256] in [-1, 1] to W+ codes [B, L, 512], relative to `latent_avg` [L, 512].

    layers: L. kind: how the heads' outputs make the codes.
    """

    side = SIDE

    def __init__(self, layers: int, kind: Kind = "psp"):
        super().__init__()
        self.layers, self.kind = layers, kind
        self.latent_avg: Tensor
        self.register_buffer("latent_avg", torch.zeros(layers, WIDTH))
        _, (fine, _), (middle, _), _ = STAGES
        self.input_layer, self.body = backbone()
        sides = [16 if n < COARSE_HEADS else 32 if n < MIDDLE_HEADS else 64 for n in range(layers)]
        self.styles = nn.ModuleList(_Head(side) for side in sides)
        self.latlayer1 = nn.Conv2d(middle, WIDTH, 1)
        self.latlayer2 = nn.Conv2d(fine, WIDTH, 1)

    def to_json(self) -> dict[str, Any]:
        return {"kind": self.kind, "layers": self.layers}

    def heads(self, pictures: Tensor) -> Tensor:
        """The output of each head, [B, L, D]."""
        x, kept = self.input_layer(pictures), {}
        for number, block in enumerate(self.body):
            x = block(x)
            if number in (FINE, MIDDLE):
                kept[number] = x
        middle = _enlarged_onto(x, self.latlayer1(kept[MIDDLE]))
        fine = _enlarged_onto(middle, self.latlayer2(kept[FINE]))
        said = [
            head(x if n < COARSE_HEADS else middle if n < MIDDLE_HEADS else fine) for n, head in enumerate(self.styles)
        ]
        return torch.stack(said, 1)

    def forward(self, pictures: Tensor) -> Tensor:
        said = self.heads(pictures)
        if self.kind == "e4e":
            said = torch.cat([said[:, :1], said[:, :1] + said[:, 1:]], 1)
        return said + self.latent_avg


def _enlarged_onto(coarse: Tensor, fine: Tensor) -> Tensor:
    return F.interpolate(coarse, size=fine.shape[2:], mode="bilinear", align_corners=True) + fine


@dataclass(frozen=True, kw_only=True)
class FoundEncoder:
    """average: where its average code comes from; None: use the generator's. dataset: what it was trained on, as its
    options name it, or ''. ignored: what else the file holds.
    """

    encoder: PSPEncoder
    average: str | None
    dataset: str
    ignored: list[str]


def find_encoder(tree: Any, path: Path) -> FoundEncoder:
    """Find the encoder in the result of `svgan.io.torch_file.read` of `path`.

    Raises UserError if there is none, or one of another kind or incomplete.
    """
    if not has_encoder(tree):
        raise UserError(f"{path}: no pSp or e4e encoder (a state_dict with encoder.* in it); it holds {seen(tree)}")
    options = tree.get("opts")
    options = getattr(options, "state", options)
    options = options if isinstance(options, Mapping) else {}
    kind = KINDS.get(str(options.get("encoder_type")))
    if kind is None or options.get("learn_in_w"):
        why = "one code for all layers (learn_in_w)" if kind else f"encoder_type {options.get('encoder_type')}"
        raise UserError(f"{path}: opts say {why}; known are {' and '.join(KINDS)}, which share their tensors' names")
    weights = tensors(without_prefix(tree["state_dict"], "encoder."), path)
    layers = len({name.split(".")[1] for name in weights if name.startswith("styles.")})
    with torch.device("meta"):
        encoder = PSPEncoder(min(layers, 2 * math.ceil(math.log2(SIDE * 16))), kind)
    shapes = {name: value.shape for name, value in encoder.state_dict().items() if name != "latent_avg"}
    for name, value in weights.items():
        if shapes.get(name) != value.shape:
            place = f"its place is {list(shapes[name])}" if name in shapes else "it has no place in an IR-SE-50 encoder"
            raise UserError(f"{path}: encoder.{name} is {list(value.shape)}, {place}")
        if value.is_floating_point() and not value.isfinite().all():
            raise UserError(f"{path}: encoder.{name} holds numbers that are not finite; the checkpoint is spoilt")
    if missing := sorted(set(shapes) - set(weights)):
        raise UserError(f"{path}: not a whole encoder: {len(missing)} tensors are missing, as encoder.{missing[0]}")
    average, said = _average(tree, options, layers, path)
    ours = {name: value.float() if value.is_floating_point() else value for name, value in weights.items()}
    encoder.load_state_dict(ours | {"latent_avg": average}, assign=True)
    return FoundEncoder(
        encoder=encoder.eval().requires_grad_(False),
        average=said,
        dataset=str(options.get("dataset_type") or ""),
        ignored=[str(name) for name in tree if name not in ("state_dict", "latent_avg", "opts")],
    )


def _average(tree: Mapping[str, Any], options: Mapping[str, Any], layers: int, path: Path) -> tuple[Tensor, str | None]:
    """latent_avg [L, D] and its source."""
    none = torch.zeros(layers, WIDTH)
    if options.get("start_from_latent_avg") is False:
        return none, "its options say none"
    stored = tensors({"latent_avg": tree.get("latent_avg")}, path).get("latent_avg")
    if stored is None:
        return none, None
    rows = stored.reshape(-1, stored.shape[-1])
    if rows.shape not in ((1, WIDTH), (layers, WIDTH)) or not rows.isfinite().all():
        raise UserError(f"{path}: latent_avg is {list(stored.shape)}, for {layers} layers of width {WIDTH}")
    return rows.float().expand(layers, WIDTH).contiguous(), "from the file"
