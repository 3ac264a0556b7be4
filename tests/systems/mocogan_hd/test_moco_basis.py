"""The basis of W: orthonormal, worth what it says, and the space made of it."""

import json
from dataclasses import replace

import pytest
import torch

from svgan.errors import UserError
from svgan.images.stylegan2 import Generator, StyleGAN2Config
from svgan.latents.spaces import space_from_state
from svgan.systems.mocogan_hd import basis

CONFIG = StyleGAN2Config(resolution=8, w_dim=12, mapping_layers=3, channels={4: 8, 8: 8}, mapping_lr=0.1)


@pytest.fixture(scope="module")
def generator() -> Generator:
    torch.manual_seed(0)
    made = Generator(CONFIG).requires_grad_(False)
    for layer in made.mapping:
        torch.nn.init.normal_(layer.bias)
    return made


@pytest.fixture(scope="module")
def codes(generator: Generator) -> torch.Tensor:
    return torch.cat(list(basis.samples(basis.mapping_of(generator), 9000, 0)))


def test_the_mapping_is_the_generators_own(generator: Generator):
    z = torch.randn(5, 12)
    torch.testing.assert_close(basis.mapping_of(generator)(z), generator.map(z))


def test_streamed_moments_are_those_of_all_samples(codes: torch.Tensor):
    far = codes + 1000
    mean, covariance = basis.moments(far.split(1700))
    torch.testing.assert_close(mean, far.double().mean(0))
    torch.testing.assert_close(covariance, torch.cov(far.double().T, correction=0), rtol=1e-9, atol=1e-12)


def test_the_basis_is_orthonormal_and_explains_what_it_says(generator: Generator, codes: torch.Tensor):
    space = basis.w_space(generator, 9000, 0)
    torch.testing.assert_close(space.axes @ space.axes.T, torch.eye(12), atol=1e-5, rtol=0)
    assert (space.spread[1:] <= space.spread[:-1]).all()
    coordinates = space.encode_w(codes)
    torch.testing.assert_close(coordinates.std(0, correction=0), space.spread, rtol=1e-3, atol=1e-5)
    centred = codes - codes.mean(0)
    for components in (1, 4, 12):
        axes = space.axes[:components]
        left = (centred - centred @ axes.T @ axes).square().sum() / centred.square().sum()
        assert basis.explained(space.spread, components) == pytest.approx(1 - float(left), abs=1e-5)
    random = torch.linalg.qr(torch.randn(12, 12)).Q[:4]
    assert (centred @ random.T).square().sum() < (centred @ space.axes[:4].T).square().sum()


def test_the_seed_alone_decides(generator: Generator):
    one, same, other = (basis.w_space(generator, 5000, seed).axes for seed in (0, 0, 1))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_a_code_of_the_space_is_the_same_in_every_layer_and_comes_back(generator: Generator, codes: torch.Tensor):
    space = basis.w_space(generator, 5000, 0)
    decoded = space.decode(space.encode_w(codes[:7]))
    assert decoded.shape == (7, CONFIG.num_layers, 12)
    torch.testing.assert_close(decoded, generator.broadcast(codes[:7]), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(space.encode(decoded), space.encode_w(codes[:7]), atol=1e-4, rtol=1e-4)
    z = torch.randn(3, 12)
    torch.testing.assert_close(space.decode(space.subjects(z))[:, 1], generator.map(z), atol=1e-4, rtol=1e-4)


def test_the_space_is_rebuilt_from_what_a_checkpoint_keeps(generator: Generator):
    space = basis.w_space(generator, 5000, 0)
    again = space_from_state(json.loads(json.dumps(space.spec())), space.state_dict())
    z = torch.randn(3, 12)
    assert torch.equal(again.decode(again.subjects(z)), space.decode(space.subjects(z)))


def test_no_sample_is_refused(generator: Generator):
    with pytest.raises(UserError, match="mapping_samples"):
        basis.moments([])


def test_a_deeper_mapping_has_more_layers():
    deep = Generator(replace(CONFIG, mapping_layers=5))
    assert basis.w_space(deep, 100, 0).spec()["mapping_layers"] == 5
