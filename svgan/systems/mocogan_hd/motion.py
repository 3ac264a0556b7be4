"""MoCoGAN-HD's motion generator: noise to a sequence of W codes (Fig. 2 and Eq. 2 of the paper; the released code).

    w_1 = mapping(z)                     the subject: a code of the frozen generator's W space
    h_1, c_1 = LSTM_enc(w_1)
    h_t, c_t = LSTM_dec(eps_t, h_{t-1}, c_{t-1})                          t = 2..T
    w_t = w_{t-1} + step tanh(M h_t + b) diag(sigma) V                    residual 'code': the released code
    w_t = w_{t-1} + step h_t V                                            residual 'paper': Eq. 2
    w_t = M h_t + b                                                       residual 'none': the ablation without Eq. 2

Codes are in the coordinates of the space, that is along V, so a residual moves the first `components` coordinates. The
encoder reads coordinates too (ours): they are an affine map of w, which its first layer could learn. The parts of the
paper that this project could read do not say what replaces Eq. 2 in the ablation; the Linear of h_t is ours. Source:
docs/papers.md#mocogan-hd-generator.

Axes: B clip, T frame, D width of W and of the space, M memory.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from svgan.latents.spaces import WSpace
from svgan.motion.base import ContinuedMotion
from svgan.motion.noise import ALL, Noise, draw_first, draw_later

RESIDUALS = ("code", "paper", "none")
COMBINED_STD = 0.02  # standard deviation of M's initial weights, as in the released code

Memory = tuple[Tensor, Tensor]  # h and c, each [B, M]


class LSTMMotion(ContinuedMotion):
    """Map noise to codes in a WSpace, of which it keeps a copy; see `svgan.motion.base`.

    half_speed: `stream` inserts the mean between neighbouring codes, the paper's way to slower motion. The residual
    'paper' needs as many components as the memory is wide.
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
        """Draw z [B, D] of the first frame and eps [B, T - 1, D] of the others, on the generator's device."""
        width = self.space.code_width
        z = draw_first(batch, width, generator)
        chunks = list(draw_later(batch, length - 1, width, generator, length))
        return Noise(z, chunks[0] if chunks else z.new_zeros(batch, 0, width))

    def forward(self, noise: Noise) -> tuple[Tensor, Tensor, Tensor]:
        """Return codes [B, T, D], and h and c [B, T - 1, M] of all frames but the first."""
        first = self.space.subjects(noise.i)
        codes, hidden, cells, _ = self.unroll(noise.s, first, self.encoder(first))
        return torch.cat([first[:, None], codes], 1), hidden, cells

    def unroll(self, eps: Tensor, code: Tensor, memory: Memory) -> tuple[Tensor, Tensor, Tensor, Memory]:
        """Continue from a code [B, D] and its memory with eps [B, T', D].

        Returns codes [B, T', D], h and c [B, T', M], and the memory after the last frame.
        """
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
        """Compute w_t from w_{t-1} [B, D] and h_t [B, M], in coordinates of the space."""
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
        """Yield codes in chunks [B, <= chunk, D], at half speed if that is set."""
        first = self.space.subjects(draw_first(batch, self.space.code_width, generator)[part])
        yield from self.continued(first, batch, length, generator, chunk, part)

    def continued(
        self, first: Tensor, batch: int, length: int, generator: torch.Generator, chunk: int = 64, part: slice = ALL
    ) -> Iterator[Tensor]:
        """Yield codes as `stream` does, from given first codes [B, D] in coordinates of the space."""
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
    """Slow codes [B, T, D] to half speed, [B, 2 T - 1, D]: insert the mean between neighbours."""
    between = (codes[:, :-1] + codes[:, 1:]) / 2
    pairs = torch.stack([codes[:, :-1], between], 2).flatten(1, 2)
    return torch.cat([pairs, codes[:, -1:]], 1)


def orthogonal_gates(cell: nn.LSTMCell) -> None:
    """Initialise each gate's weights orthogonally and the biases with 0, as the released code does."""
    for weight in (cell.weight_ih, cell.weight_hh):
        for gate in weight.chunk(4):
            nn.init.orthogonal_(gate)
    nn.init.zeros_(cell.bias_ih)
    nn.init.zeros_(cell.bias_hh)


class NoiseGuess(nn.Module):
    """H of the mutual information: two linear layers with a ReLU between them, which predict eps_t [.., D].

    cells: predict from [h_t, c_t], as the released code does; else from h_t alone, as in the paper.
    """

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
