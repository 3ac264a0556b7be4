"""MoCoGAN-HD's generator of motion: noise to a sequence of W codes (systems.md 2.1).

    w_1 = mapping(z)                     the subject: a code of the frozen generator's W space
    h_1, c_1 = LSTM_enc(w_1)
    h_t, c_t = LSTM_dec(eps_t, h_{t-1}, c_{t-1})                          t = 2..T
    w_t = w_{t-1} + step tanh(M h_t + b) diag(sigma) V                    residual 'code': the released code
    w_t = w_{t-1} + step h_t V                                            residual 'paper': Eq. 2
    w_t = M h_t + b                                                       residual 'none': the ablation without Eq. 2

In the space's coordinates V is a change of axes that is done with: a residual moves the first `components` of them. The
encoder reads coordinates, too (ours; an affine map of w, which its first layer could have learnt). What stands in the
ablation in place of Eq. 2 the paper does not say in what we could read: a Linear of h_t is ours.

Axes: B clip, T frame, D width of W and of the space, M memory.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from svgan.latents.spaces import WSpace
from svgan.motion.base import Motion
from svgan.motion.noise import ALL, Noise, draw_first, draw_later

RESIDUALS = ("code", "paper", "none")
COMBINED_STD = 0.02  # of M's first weights, in the released code

Memory = tuple[Tensor, Tensor]  # h, c, [B, M] each


class LSTMMotion(Motion):
    """Noise to codes in a WSpace, of which it keeps a copy; see `svgan.motion.base`.

    half_speed: `stream` puts between neighbouring codes their mean, the paper's way to slower motion. The paper's
    residual wants as many components as the memory is wide.
    """

    def __init__(
        self,
        space: WSpace,
        *,
        memory: int,
        components: int,
        residual: str = "code",
        step: float = 0.2,
        half_speed: bool = False,
    ):
        super().__init__()
        width = space.code_width
        self.space = copy.deepcopy(space)
        self.components, self.residual, self.step, self.half_speed = components, residual, step, half_speed
        self.encoder, self.decoder = nn.LSTMCell(width, memory), nn.LSTMCell(width, memory)
        for cell in (self.encoder, self.decoder):
            orthogonal_gates(cell)
        self.combine = None if residual == "paper" else nn.Linear(memory, width if residual == "none" else components)
        if self.combine is not None:
            nn.init.normal_(self.combine.weight, std=COMBINED_STD)
            nn.init.zeros_(self.combine.bias)

    def draw(self, batch: int, length: int, generator: torch.Generator) -> Noise:
        """z [B, D] of the first frame, eps [B, T - 1, D] of the others, on the generator's device."""
        width = self.space.code_width
        z = draw_first(batch, width, generator)
        chunks = list(draw_later(batch, length - 1, width, generator, length))
        return Noise(z, chunks[0] if chunks else z.new_zeros(batch, 0, width))

    def forward(self, noise: Noise) -> tuple[Tensor, Tensor, Tensor]:
        """Codes [B, T, D], and h and c [B, T - 1, M] of all frames but the first."""
        first = self.space.subjects(noise.i)
        codes, hidden, cells, _ = self.unroll(noise.s, first, self.encoder(first))
        return torch.cat([first[:, None], codes], 1), hidden, cells

    def unroll(self, eps: Tensor, code: Tensor, memory: Memory) -> tuple[Tensor, Tensor, Tensor, Memory]:
        """From a code [B, D] and its memory: codes [B, T', D], h and c [B, T', M] by eps [B, T', D], and the memory."""
        codes: list[Tensor] = []
        hidden: list[Tensor] = []
        cells: list[Tensor] = []
        for noise in eps.unbind(1):
            memory = self.decoder(noise, memory)
            code = self.moved(code, memory[0])
            for kept, value in ((codes, code), (hidden, memory[0]), (cells, memory[1])):
                kept.append(value)
        stacked = [torch.stack(kept, 1) if kept else eps[:, :0] for kept in (codes, hidden, cells)]
        return stacked[0], stacked[1], stacked[2], memory

    def moved(self, code: Tensor, h: Tensor) -> Tensor:
        """w_t of w_{t-1} [B, D] and h_t [B, M], all in coordinates."""
        if self.residual == "none":
            assert self.combine is not None
            return self.combine(h)
        if self.combine is None:
            change = self.step * h / self.space.scale[: self.components]
        else:
            change = self.step * torch.tanh(self.combine(h)) * self.space.spread[: self.components]
        return torch.cat([code[:, : self.components] + change, code[:, self.components :]], 1)

    def stream(
        self, batch: int, length: int, generator: torch.Generator, chunk: int = 64, part: slice = ALL
    ) -> Iterator[Tensor]:
        """Codes in chunks [B, <= chunk, D], at half speed where that is set."""
        first = self.space.subjects(draw_first(batch, self.space.code_width, generator)[part])
        yield from self.continued(first, batch, length, generator, chunk, part)

    def continued(
        self, first: Tensor, batch: int, length: int, generator: torch.Generator, chunk: int = 64, part: slice = ALL
    ) -> Iterator[Tensor]:
        """`stream` from given first codes [B, D], in coordinates."""
        code, memory = first, self.encoder(first)
        yield first[:, None]
        left = length - 1
        frames = -(-left // 2) if self.half_speed else left
        for eps in draw_later(batch, frames, self.space.code_width, generator, max(1, chunk // (1 + self.half_speed))):
            codes, _, _, memory = self.unroll(eps[part], code, memory)
            made = slowed(torch.cat([code[:, None], codes], 1))[:, 1:] if self.half_speed else codes
            code = codes[:, -1]
            for piece in made[:, :left].split(chunk, 1):
                yield piece
                left -= piece.shape[1]


def slowed(codes: Tensor) -> Tensor:
    """Codes [B, T, D] at half speed, [B, 2 T - 1, D]: between neighbours comes their mean."""
    between = (codes[:, :-1] + codes[:, 1:]) / 2
    pairs = torch.stack([codes[:, :-1], between], 2).flatten(1, 2)
    return torch.cat([pairs, codes[:, -1:]], 1)


def orthogonal_gates(cell: nn.LSTMCell) -> None:
    """Each gate's weights orthogonal, biases zero, as in the released code."""
    for weight in (cell.weight_ih, cell.weight_hh):
        for gate in weight.chunk(4):
            nn.init.orthogonal_(gate)
    nn.init.zeros_(cell.bias_ih)
    nn.init.zeros_(cell.bias_hh)


class NoiseGuess(nn.Module):
    """H of the mutual information: what it can tell of eps_t [.., D] from [h_t, c_t] (the released code) or, without
    cells, from h_t alone (the paper); two linear layers, a ReLU between them."""

    def __init__(self, memory: int, width: int, cells: bool):
        super().__init__()
        self.cells = cells
        self.layers = nn.Sequential(nn.Linear(memory * (1 + cells), width), nn.ReLU(), nn.Linear(width, width))
        for layer in (self.layers[0], self.layers[2]):
            assert isinstance(layer, nn.Linear)
            nn.init.orthogonal_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, hidden: Tensor, cells: Tensor) -> Tensor:
        return self.layers(torch.cat([hidden, cells], -1) if self.cells else hidden)
