"""The generator of motion: its formulas, any length, half speed, and what sampling asks of every Motion."""

import pytest
import torch

from svgan.latents.spaces import WSpace
from svgan.systems.mocogan_hd.motion import RESIDUALS, LSTMMotion, NoiseGuess, slowed

WIDTH, MEMORY, COMPONENTS = 6, 4, 4


def made_space() -> WSpace:
    g = torch.Generator().manual_seed(0)
    space = WSpace(4, WIDTH, 2)
    space.axes.copy_(torch.linalg.qr(torch.randn(WIDTH, WIDTH, generator=g)).Q)
    space.scale.fill_(2.5)
    space.spread.copy_(torch.linspace(1, 0.2, WIDTH))
    space.mean.copy_(torch.randn(WIDTH, generator=g).repeat(4))
    space.mapping.weight.copy_(torch.randn(2, WIDTH, WIDTH, generator=g) / 2)
    return space


def made(residual: str = "code", half_speed: bool = False) -> LSTMMotion:
    torch.manual_seed(1)
    options = {"memory": MEMORY, "components": COMPONENTS, "residual": residual, "half_speed": half_speed}
    motion = LSTMMotion(made_space(), **options)
    if motion.combine is not None:
        torch.nn.init.normal_(motion.combine.weight)
    return motion


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(3)


def step_by_hand(motion: LSTMMotion, w: torch.Tensor, h: torch.Tensor) -> torch.Tensor:
    """The formulas of the paper and of its code as they stand, in W itself."""
    space = motion.space
    v = space.axes[:COMPONENTS]
    if motion.residual == "paper":
        return w + 0.2 * h @ v
    sigma = torch.diag(space.spread[:COMPONENTS] * space.scale[0])
    return w + 0.2 * torch.tanh(h @ motion.combine.weight.T + motion.combine.bias) @ (sigma @ v)


@pytest.mark.parametrize("residual", ["code", "paper"])
def test_a_clip_is_what_the_formula_says(residual: str):
    motion = made(residual)
    noise = motion.draw(2, 5, seeded())
    codes, hidden, cells = motion(noise)
    space = motion.space
    w = space.mapping(noise.i)
    h, c = motion.encoder(space.encode_w(w))
    decoded = space.decode(codes)
    torch.testing.assert_close(decoded[:, 0, 0], w, atol=1e-5, rtol=1e-5)
    for t in range(4):
        h, c = motion.decoder(noise.s[:, t], (h, c))
        w = step_by_hand(motion, w, h)
        torch.testing.assert_close(hidden[:, t], h)
        torch.testing.assert_close(cells[:, t], c)
        for layer in range(4):
            torch.testing.assert_close(decoded[:, t + 1, layer], w, atol=1e-5, rtol=1e-5)


def test_without_the_basis_a_code_is_of_its_memory_alone():
    motion = made("none")
    codes, hidden, _ = motion(motion.draw(2, 5, seeded()))
    torch.testing.assert_close(codes[:, 1:], motion.combine(hidden))


@pytest.mark.parametrize("residual", RESIDUALS)
@pytest.mark.parametrize("half_speed", [False, True])
@pytest.mark.parametrize("length", [1, 2, 6, 7, 41])
def test_any_length_in_chunks_is_the_whole(residual: str, half_speed: bool, length: int):
    motion = made(residual, half_speed)
    with torch.no_grad():
        frames = length // 2 + 1 if half_speed else length
        whole, _, _ = motion(motion.draw(3, frames, seeded()))
        whole = (slowed(whole) if half_speed else whole)[:, :length]
        for chunk in (1, 2, 5, 64):
            pieces = list(motion.stream(3, length, seeded(), chunk))
            assert max(piece.shape[1] for piece in pieces) <= chunk
            torch.testing.assert_close(torch.cat(pieces, 1), whole, rtol=1e-4, atol=1e-5)
        part = torch.cat(list(motion.stream(3, length, seeded(), 5, slice(1, 2))), 1)
    torch.testing.assert_close(part, whole[1:2], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("half_speed", [False, True])
def test_a_longer_clip_begins_with_the_shorter(half_speed: bool):
    motion = made(half_speed=half_speed)
    with torch.no_grad():
        short, long = (torch.cat(list(motion.stream(2, n, seeded())), 1) for n in (25, 250))
    torch.testing.assert_close(long[:, :25], short, rtol=1e-4, atol=1e-5)


def test_half_speed_is_the_mean_of_neighbours():
    codes = torch.randn(2, 4, 3)
    slow = slowed(codes)
    assert torch.equal(slow[:, ::2], codes)
    torch.testing.assert_close(slow[:, 1::2], (codes[:, 1:] + codes[:, :-1]) / 2)


def test_only_the_first_components_move():
    motion = made()
    codes, _, _ = motion(motion.draw(2, 5, seeded()))
    moved = codes[:, 1:] - codes[:, :-1]
    assert (moved[..., :COMPONENTS] != 0).all()
    assert (moved[..., COMPONENTS:] == 0).all()
    assert (moved[..., :COMPONENTS].abs() <= 0.2 * motion.space.spread[:COMPONENTS] + 1e-6).all()


def test_what_learns_is_no_part_of_the_frozen_generator():
    motion = made()
    assert {name.partition(".")[0] for name, _ in motion.named_parameters()} == {"encoder", "decoder", "combine"}


def test_the_released_codes_size():
    space = WSpace(18, 512, 1)
    motion, guess = LSTMMotion(space, memory=384, components=384), NoiseGuess(384, 512, True)
    counted = sum(p.numel() for module in (motion, guess) for p in module.parameters())
    assert counted == pytest.approx(3.56e6, rel=0.02)  # of the released code


@pytest.mark.parametrize("cells", [False, True])
def test_the_guess_sees_what_it_may(cells: bool):
    guess, h, c = NoiseGuess(MEMORY, WIDTH, cells), torch.randn(2, 3, MEMORY), torch.randn(2, 3, MEMORY)
    assert guess(h, c).shape == (2, 3, WIDTH)
    assert torch.equal(guess(h, c), guess(h, c + 1)) != cells
