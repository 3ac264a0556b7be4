"""The critics' layers, and that none mixes samples."""

import copy

import pytest
import torch

from svgan.systems.mocogan_hd.critics import (
    EmbeddingCritic,
    KeyQueue,
    PatchCritic,
    follow_slowly,
    frames_at,
    video_input,
)


def test_the_clip_critic_has_the_released_codes_sizes():
    """The sizes of 15 frames of 128 x 128, layer by layer (docs/papers.md#mocogan-hd-discriminators)."""
    with torch.device("meta"):
        critic = PatchCritic(3, 6, (64, 128, 256, 512))
        x, seen = torch.zeros(1, 6, 15, 128, 128), []
        for layer in critic.scales[0]:
            x = layer(x)
            if isinstance(layer, torch.nn.Conv3d):
                seen.append((layer.out_channels, *x.shape[2:]))
    expected = [(64, 8, 65, 65), (128, 5, 33, 33), (256, 3, 17, 17), (512, 4, 18, 18), (1, 5, 19, 19)]
    assert seen == expected
    kinds = [type(layer).__name__ for layer in critic.scales[0]]
    assert kinds[:3] == ["Conv3d", "LeakyReLU", "Conv3d"]
    assert kinds.count("InstanceNorm3d") == 3
    assert kinds[-1] == "Conv3d"


@pytest.mark.parametrize(("frames", "kept"), [(16, 16), (17, 9)])
def test_the_second_scale_halves_long_clips_alone(frames: int, kept: int):
    assert PatchCritic(3, 3, (4, 4)).coarser(torch.zeros(1, 3, frames, 16, 16)).shape[2:] == (kept, 8, 8)


def test_pairs_lay_every_later_frame_on_the_first():
    clips = torch.randn(2, 5, 3, 4, 4)
    seen = video_input(clips, pairs=True)
    assert seen.shape == (2, 6, 4, 4, 4)
    for t in range(4):
        assert torch.equal(seen[:, :3, t], clips[:, 0])
        assert torch.equal(seen[:, 3:, t], clips[:, t + 1])
    assert torch.equal(video_input(clips, pairs=False)[:, :, 3], clips[:, 3])
    assert torch.equal(frames_at(clips, torch.tensor([1, 4])), torch.stack([clips[0, 1], clips[1, 4]]))


@pytest.mark.parametrize("kind", ["clips", "pictures", "embedding"])
def test_no_critic_mixes_samples(kind: str):
    torch.manual_seed(0)
    if kind == "embedding":
        critic, x = EmbeddingCritic((4, 6), 5).eval(), torch.randn(3, 3, 8, 8)
    else:
        dims = 3 if kind == "clips" else 2
        critic, x = PatchCritic(dims, 6, (4, 6, 6)), torch.randn(3, 6, *((5,) if dims == 3 else ()), 16, 16)
    together, alone = critic(x), critic(x[1:2])
    for whole, own in zip(together, alone, strict=True):
        torch.testing.assert_close(whole[1:2], own, atol=1e-5, rtol=1e-4)


def test_the_embedding_critic_is_normalised():
    torch.manual_seed(0)
    critic = EmbeddingCritic((4, 6, 6), 5)
    for _ in range(20):  # a power iteration each
        scores, embeddings = critic(torch.randn(4, 3, 16, 16))
    assert scores.shape == (4,)
    torch.testing.assert_close(embeddings.norm(dim=1), torch.ones(4))
    critic.eval()
    for layer in (critic.blocks[0].conv1, critic.score, critic.head[2]):
        largest = torch.linalg.svdvals(layer.weight.detach().flatten(1))[0]
        assert float(largest) == pytest.approx(1, abs=0.05)


def test_the_released_codes_image_critic_halves_five_times():
    widths = (96, 192, 384, 768, 1536, 1536)
    critic = EmbeddingCritic((4,) * len(widths), 4)
    assert [block.down for block in critic.blocks] == [True] * 5 + [False]


def test_a_queue_keeps_the_last_keys():
    queue = KeyQueue(5, 1)
    pushed = torch.arange(12.0)[:, None]
    for part in pushed.split((3, 1, 4, 4)):
        queue.push(part)
        assert set(part.flatten().tolist()) <= set(queue.keys.flatten().tolist())
    assert sorted(queue.keys.flatten().tolist()) == [7, 8, 9, 10, 11]
    queue.push(torch.arange(20.0, 27)[:, None])
    assert sorted(queue.keys.flatten().tolist()) == [22, 23, 24, 25, 26]
    queue.push(torch.tensor([[50.0]]))
    assert sorted(queue.keys.flatten().tolist()) == [23, 24, 25, 26, 50]


def test_the_momentum_encoder_follows_slowly():
    torch.manual_seed(0)
    fast = EmbeddingCritic((4, 4), 3)
    slow = copy.deepcopy(fast)
    with torch.no_grad():
        for p in fast.parameters():
            p.add_(1)
    before = [p.clone() for p in slow.parameters()]
    follow_slowly(slow, fast, 0.75)
    for was, now, other in zip(before, slow.parameters(), fast.parameters(), strict=True):
        torch.testing.assert_close(now, 0.75 * was + 0.25 * other)
