"""The domain trainer on made pictures: it learns, resumes to the same bits; its masks and losses mean what they say."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from full_disk import no_room
from made_faces import made_landmarks

from svgan.errors import UserError
from svgan.faces.aligned_video import AlignedVideo
from svgan.faces.crops import shrink, split
from svgan.faces.masks import face_hull, reconstruction_weight
from svgan.images import losses
from svgan.images.domain import Domain, to_network
from svgan.images.domain_trainer import DomainConfig, DomainState
from svgan.images.stylegan2 import StyleGAN2Config
from svgan.pipelines.domain_builder import build_domain

MODEL = StyleGAN2Config(resolution=16, w_dim=8, mapping_layers=2, channels={4: 16, 8: 16, 16: 16}, mapping_lr=0.1)
CONFIG = DomainConfig(
    steps=6, batch=8, fakes=4, adversarial_from=2, adversarial_every=2, r1_every=2, precision="float32"
)


def made_video(frames: int = 60, size: int = 32, seed: int = 0) -> AlignedVideo:
    """A bright square that slides over a coloured ground."""
    rng = np.random.default_rng(seed)
    crops = np.full((frames, size, size, 3), rng.integers(40, 120, 3), np.uint8)
    for k in range(frames):
        x = int((size - 10) * (0.5 + 0.5 * np.sin(k / 5 + seed)))
        crops[k, 10:20, x : x + 10] = 220
    return AlignedVideo(
        name="made",
        fps=25.0,
        index=np.arange(frames),
        crops=crops,
        landmarks=np.repeat(made_landmarks(size)[None], frames, 0),
        quads=np.zeros((frames, 4, 2), np.float32),
    )


def test_training_lowers_the_reconstruction_error_and_writes_a_domain(tmp_path):
    seen: list[float] = []
    domain = build_domain(
        [[made_video()], [made_video(seed=1)]],
        tmp_path / "domain",
        name="made",
        model=MODEL,
        config=replace(CONFIG, steps=60, adversarial_from=50),
        report=lambda step, values: seen.append(values["reconstruction"]),
        report_every=10,
    )
    assert seen[-1] < 0.8 * seen[0]
    crops = shrink(made_video().crops, 16)
    again = Domain.load(tmp_path / "domain").render(domain.encode(crops))
    assert again.shape == crops.shape
    assert domain.facts["training"]["pictures"] == [54, 60]


def test_killed_and_resumed_equals_undisturbed(tmp_path):
    whole = build_domain([[made_video()]], tmp_path / "whole", name="m", model=MODEL, config=CONFIG)

    class Killed(Exception):
        pass

    def kill_at_four(step: int, values: dict) -> None:
        if step == 4:
            raise Killed

    with pytest.raises(Killed):
        build_domain(
            [[made_video()]],
            tmp_path / "cut",
            name="m",
            model=MODEL,
            config=CONFIG,
            report=kill_at_four,
            report_every=1,
            keep_every=3,
        )
    assert not (tmp_path / "cut" / "domain.json").exists()
    resumed = build_domain([[made_video()]], tmp_path / "cut", name="m", model=MODEL, config=CONFIG)
    assert resumed.digest == whole.digest


def test_a_full_disk_is_told_and_keeps_the_last_state(tmp_path):
    state = DomainState(MODEL, CONFIG, torch.device("cpu"))
    state.save(tmp_path / "training")
    before = (tmp_path / "training" / "state.safetensors").read_bytes()
    with no_room(10_000), pytest.raises(UserError, match=r"training: cannot write \(.*make room"):
        state.save(tmp_path / "training")
    assert [p.read_bytes() for p in (tmp_path / "training").iterdir()] == [before]


def test_a_disk_that_is_full_after_training_leaves_no_domain_and_keeps_the_training(tmp_path):
    state = DomainState(MODEL, CONFIG, torch.device("cpu"))
    state.step = CONFIG.steps
    state.save(tmp_path / "d" / "training")
    with no_room(10_000), pytest.raises(UserError, match=r"d: cannot write \(.*make room, and give the command again"):
        build_domain([[made_video()]], tmp_path / "d", name="m", model=MODEL, config=CONFIG)
    assert [p.name for p in (tmp_path / "d").iterdir()] == ["training"]
    build_domain([[made_video()]], tmp_path / "d", name="m", model=MODEL, config=CONFIG)


def test_encoder_offset_is_the_generators_average(tmp_path):
    domain = build_domain([[made_video()]], tmp_path / "d", name="m", model=MODEL, config=CONFIG)
    assert torch.equal(domain.encoder.w_avg, domain.generator.w_avg)
    assert domain.generator.w_avg.abs().sum() > 0


def test_hull_covers_the_face_and_not_the_corners():
    hull = face_hull(made_landmarks(64), 64)
    assert hull[32, 32] == 1
    assert hull[2, 2] == hull[2, 61] == 0
    assert 0.2 < hull.mean() < 0.6
    weight = reconstruction_weight(made_landmarks(64), 64)
    assert weight[int(0.4 * 64), int(0.37 * 64)] > weight[32, 32] > weight[2, 2]


def test_reconstruction_loss_is_zero_only_for_equal_pictures():
    x = torch.rand(2, 3, 8, 8)
    weight = torch.ones(2, 1, 8, 8)
    assert losses.reconstruction(x, x, weight) == 0
    shifted = losses.reconstruction(x, x + 0.1, weight)
    assert torch.isclose(shifted, torch.tensor(0.2))  # pixels and half size; differences do not see a constant


def test_r1_is_the_squared_slope():
    x = torch.rand(3, 3, 4, 4, requires_grad=True)
    slope = torch.rand(3, 4, 4)
    assert torch.isclose(losses.r1((x * slope).sum((1, 2, 3)), x), slope.square().sum())


def test_augmentation_moves_whole_pixels_and_keeps_the_range():
    x = torch.rand(4, 3, 16, 16)
    rng = torch.Generator().manual_seed(1)
    y = losses.augment(x, rng)
    assert y.shape == x.shape
    assert not torch.equal(x, y)
    assert y.abs().max() < 2


def test_splits_and_sizes_are_checked():
    with pytest.raises(UserError, match="hold_out"):
        split(made_video(), 1.5)
    with pytest.raises(UserError, match="multiple of 24"):
        shrink(made_video().crops, 24)
    with pytest.raises(UserError, match="fakes"):
        DomainConfig(batch=4, fakes=8)


def test_shrinking_agrees_with_the_networks_own():
    crops = made_video(frames=3).crops
    direct = to_network(crops, 16)
    blocks = to_network(shrink(crops, 16), 16)
    assert (direct - blocks).abs().max() <= 1 / 127.5
