from pathlib import Path

import numpy as np
import pytest
import torch

from svgan.errors import UserError
from svgan.latents.clips import ClipSource
from svgan.latents.manifest import Latents, VideoCodes
from svgan.latents.shards import open_latents, write_latents
from svgan.latents.spaces import make_space


@pytest.fixture(scope="module")
def latents(tmp_path_factory: pytest.TempPathFactory) -> Latents:
    """Codes that spell their own (video, frame): [video, frame, 1, noise]; in shards of 20, 20 and 13 rows."""
    rng = np.random.default_rng(0)
    videos = []
    for number, index in enumerate([[*range(20), *range(30, 45)], [*range(18)]]):
        codes = np.stack([np.array([number, i, 1.0, rng.normal()]) for i in index]).reshape(-1, 2, 2)
        videos.append(VideoCodes(f"v{number}", np.array(index), codes.astype(np.float32)))
    folder = Path(tmp_path_factory.mktemp("latents")) / "set"
    write_latents(folder, videos, domain="d", fps=25, shard_rows=20)
    return open_latents(folder)


@pytest.fixture(scope="module")
def clips(latents: Latents) -> ClipSource:
    return ClipSource(latents, 10, make_space("wplus", latents))


def test_no_clip_crosses_a_video_or_a_gap(clips: ClipSource):
    assert len(clips) == 11 + 6 + 9
    drawn = clips.space.decode(clips.draw(2000, seed=1, step=2))
    assert drawn.shape == (2000, 10, 2, 2)
    video, frame = drawn[:, :, 0, 0].round(), drawn[:, :, 0, 1].round()
    assert (video == video[:, :1]).all()
    assert (frame.diff(dim=1) == 1).all()
    starts = set(zip(video[:, 0].tolist(), frame[:, 0].tolist(), strict=True))
    assert len(starts) == len(clips)  # every window comes up


def test_draw_is_a_pure_function(clips: ClipSource):
    first = clips.draw(8, seed=1, step=2, stream=3)
    torch.rand(5)
    assert torch.equal(first, clips.draw(8, seed=1, step=2, stream=3))
    for other in ({"seed": 2}, {"step": 3}, {"stream": 4}):
        assert not torch.equal(first, clips.draw(8, **{"seed": 1, "step": 2, "stream": 3, **other}))


def test_ranks_share_the_global_draw(clips: ClipSource):
    parts = [clips.draw(8, seed=1, step=2, rank=rank, world=4) for rank in range(4)]
    assert torch.equal(torch.cat(parts), clips.draw(8, seed=1, step=2))
    with pytest.raises(UserError, match="multiple of 3"):
        clips.draw(8, seed=1, step=2, world=3)


def test_metric_windows_are_distinct_while_they_last(clips: ClipSource):
    assert len(torch.unique(clips.windows(26, seed=0).flatten(1), dim=0)) == 26
    assert clips.windows(100, seed=0).shape[0] == 100
    assert torch.equal(clips.windows(5, seed=0), clips.windows(5, seed=0))


def test_window_longer_than_every_run(latents: Latents):
    with pytest.raises(UserError, match="longest run"):
        ClipSource(latents, 21, make_space("wplus", latents))


@pytest.mark.gpu
def test_the_same_clips_on_the_gpu(latents: Latents, clips: ClipSource):
    there = ClipSource(latents, 10, make_space("wplus", latents), "cuda")
    torch.testing.assert_close(there.draw(8, seed=1, step=2).cpu(), clips.draw(8, seed=1, step=2))
