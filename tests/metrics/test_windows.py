"""Which frames a protocol looks at, on made sets of many videos; no network runs here."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from svgan.errors import UserError
from svgan.latents.manifest import Latents, VideoCodes
from svgan.latents.shards import open_latents, write_latents
from svgan.latents.spaces import make_space
from svgan.metrics import windows
from svgan.metrics.protocol import LEAST_REAL, PROTOCOLS, Protocol
from svgan.metrics.windows import check_real, real_count, real_windows, resize, rollouts
from svgan.sampling.sampler import Sampler
from svgan.systems.stylevideogan.networks import make_motion
from svgan.training import recipes


def made_set(folder, lengths) -> Latents:
    """A video per length; its codes count its frames."""
    videos = [
        VideoCodes(f"{number:03d}", np.arange(n), np.broadcast_to(np.arange(n)[:, None, None], (n, 2, 3)))
        for number, n in enumerate(lengths)
    ]
    write_latents(folder / "set", videos, domain="d", fps=25.0, components=2)
    return open_latents(folder / "set")


@pytest.fixture(scope="module")
def many(tmp_path_factory) -> Latents:
    """90 videos: every third too short for 128 frames, every ninth for 16."""
    lengths = [9 if n % 9 == 0 else 40 if n % 3 == 0 else 130 + n for n in range(1, 91)]
    return made_set(tmp_path_factory.mktemp("many"), lengths)


@pytest.fixture(scope="module")
def one(tmp_path_factory) -> Latents:
    """One video of 200 seconds, as the default domain's."""
    return made_set(tmp_path_factory.mktemp("one"), [4998])


def test_stylegan_v_takes_one_clip_of_each_video_that_is_long_enough(many):
    rows = real_windows(PROTOCOLS["stylegan-v-16"], many)
    videos = many.video[rows]
    assert rows.shape == (80, 16), "ten videos of nine frames have no clip of sixteen"
    assert (videos == videos[:, :1]).all()
    assert (np.diff(videos[:, 0]) > 0).all(), "one of each, in their order"
    assert (np.diff(many.index[rows], axis=1) == 1).all()


def test_stylegan_v_starts_are_uniform_over_a_video(tmp_path):
    same = made_set(tmp_path, [41] * 400)
    starts = same.index[real_windows(PROTOCOLS["stylegan-v-16"], same)][:, 0]
    assert (starts.min(), starts.max()) == (0, 25)
    assert abs(starts.mean() - 12.5) < 4 * 7.5 / 20
    other = replace(PROTOCOLS["stylegan-v-16"], seed=1)
    assert (same.index[real_windows(other, same)][:, 0] != starts).any()
    fewer = replace(PROTOCOLS["stylegan-v-16"], real_clips=70)
    np.testing.assert_array_equal(same.video[real_windows(fewer, same)][:, 0], np.arange(70))


def test_a_stride_spans_121_frames_but_needs_videos_of_128(tmp_path):
    made = made_set(tmp_path, [127] * 3 + [128] * 70)
    protocol = PROTOCOLS["stylegan-v-128-s8"]
    assert (protocol.span, protocol.rollout) == (121, 121)
    rows = real_windows(protocol, made)
    assert rows.shape == (70, 16)
    assert (np.diff(made.index[rows], axis=1) == 8).all()
    assert made.index[rows][:, 0].max() == 7, "the last frame may be the video's last"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        (
            "stylegan-v-128",
            "60 real clips, needs 64; .* 60 videos of 128 frames or more, .* one clip of each",
        ),
        ("stylegan-v-128-s8", "60 real clips, needs 64"),
    ],
)
def test_too_few_videos_are_refused_with_their_count(many, name, words):
    with pytest.raises(UserError, match=words) as refused:
        real_windows(PROTOCOLS[name], many)
    assert "\n" not in str(refused.value)


def test_one_video_is_one_clip_of_stylegan_v_and_199_of_ours(one):
    assert real_count(PROTOCOLS["svg-short"], one) == 199
    check_real(PROTOCOLS["svg-short"], one)
    for name in ("stylegan-v-16", "mocogan-hd-16"):
        with pytest.raises(UserError, match=f"{name}: 1 real clips, needs {LEAST_REAL}"):
            check_real(PROTOCOLS[name], one)


def test_ours_counts_clips_that_do_not_overlap(tmp_path):
    made = made_set(tmp_path, [24, 25, 49, 50, 76])
    assert real_count(PROTOCOLS["svg-short"], made) == 0 + 1 + 1 + 2 + 3
    with pytest.raises(UserError, match=r"svg-long: 7 real clips, needs 64; .* 7 clips of 25 frames"):
        check_real(PROTOCOLS["svg-long"], made)
    assert len(real_windows(PROTOCOLS["svg-short"], made)) == 256, "a study on short footage goes on as it did"


def test_clips_shorter_than_the_protocol_are_refused(tmp_path):
    made = made_set(tmp_path, [60, 70])
    with pytest.raises(UserError, match=r"128 frames, but the longest run without a gap .* has 70"):
        real_windows(PROTOCOLS["stylegan-v-128"], made)


def test_a_protocols_rollout_is_the_same_alone_and_with_others(tmp_path):
    made = made_set(tmp_path, [300])
    torch.manual_seed(0)
    space = make_space("pca", made, 2)
    sampler = Sampler(make_motion(recipes.make("tiny", components=2, width=8, trunk=(8,)), 2).eval(), space, {})
    ours = {name: PROTOCOLS[name].with_clips(3) for name in ("svg-short", "svg-long")}
    together = next(rollouts(sampler, ours, 5))
    for name, protocol in ours.items():
        assert torch.equal(next(rollouts(sampler, {name: protocol}, 5))[name], together[name])
    close = {"rtol": 1e-5, "atol": 1e-3}  # of codes up to 300, rolled out in other pieces
    torch.testing.assert_close(together["svg-short"], sampler.codes(3, 25, 5), **close)
    eighths = next(rollouts(sampler, {"s8": PROTOCOLS["stylegan-v-128-s8"].with_clips(2)}, 5))["s8"]
    torch.testing.assert_close(eighths, sampler.codes(2, 121, 5)[:, ::8], **close)


def test_a_generator_that_diverged_is_one_line():
    class Diverged:
        def stream(self, clips, length, seed, *, chunk, part):
            yield torch.zeros(clips, chunk, 2, 3)
            yield torch.full((clips, chunk, 2, 3), torch.nan)

    with pytest.raises(UserError, match=r"NaN or infinite by frame 50.* diverged"):
        next(rollouts(Diverged(), {"p": Protocol(name="p", clips=2, rollout=50)}, 0))


def test_clips_come_in_groups_that_are_parts_of_one_rollout(tmp_path, monkeypatch):
    """No group is larger than said, and their clips are those of the whole, but for the rounding of other batches."""
    made = made_set(tmp_path, [300])
    torch.manual_seed(0)
    space = make_space("wplus", made)
    sampler = Sampler(make_motion(recipes.make("tiny", width=8, trunk=(8,)), space.width).eval(), space, {})
    ours = {name: PROTOCOLS[name].with_clips(21) for name in ("svg-short", "svg-long")}
    (whole,) = rollouts(sampler, ours, 5)
    monkeypatch.setattr(windows, "GROUP", 8)
    groups = list(rollouts(sampler, ours, 5))
    assert [len(group["svg-long"]) for group in groups] == [8, 8, 5]
    for name in ours:
        torch.testing.assert_close(torch.cat([group[name] for group in groups]), whole[name], rtol=1e-5, atol=1e-3)


def test_sizes():
    clip = np.random.default_rng(0).integers(0, 255, (3, 64, 64, 3), np.uint8)
    assert resize(clip, None) is clip
    assert resize(clip, 64) is clip
    means = clip.reshape(3, 32, 2, 32, 2, 3).astype(float).mean((2, 4))
    assert np.abs(resize(clip, 32) - means).max() <= 0.5
    assert resize(clip, 48).shape == (3, 48, 48, 3)
    flat = np.full((1, 16, 16, 3), 200, np.uint8)
    assert (resize(flat, 128) == 200).all()
