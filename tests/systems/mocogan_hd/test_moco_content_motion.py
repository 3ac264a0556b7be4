"""The same motion with other contents, the same content with other motions: in codes, as a command, in one line."""

from pathlib import Path

import numpy as np
import pytest
import torch
from made_moco import made_latents
from test_moco_prediction import run  # noqa: F401  (a fixture)

from svgan import cli
from svgan.errors import UserError
from svgan.images.domain import Domain
from svgan.latents.spaces import make_space
from svgan.sampling import content_motion
from svgan.sampling.sampler import Sampler
from svgan.training import recipes, registry


def shared(sampler: Sampler, what: str, chunk: int) -> torch.Tensor:
    share = content_motion.sharing(sampler, what)
    return torch.cat([share(piece) for piece in sampler.stream(3, 9, 0, chunk=chunk)], 1)


@pytest.mark.parametrize("chunk", [64, 4])
def test_one_motion_moves_every_content(run: Path, chunk: int):  # noqa: F811
    sampler = Sampler.load(run)
    plain, clips = sampler.codes(3, 9, 0), shared(sampler, "motion", chunk)
    torch.testing.assert_close(clips[:, 0], plain[:, 0])
    torch.testing.assert_close(clips[0], plain[0])
    moved = clips - clips[:, :1]
    assert moved[0, -1].abs().max() > 1e-3
    torch.testing.assert_close(moved, moved[:1].expand_as(moved), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("chunk", [64, 4])
def test_every_motion_moves_one_content(run: Path, chunk: int):  # noqa: F811
    sampler = Sampler.load(run)
    plain, clips = sampler.codes(3, 9, 0), shared(sampler, "content", chunk)
    torch.testing.assert_close(clips[:, 0], plain[:1, 0].expand_as(clips[:, 0]))
    torch.testing.assert_close(clips - clips[:, :1], plain - plain[:, :1], atol=1e-5, rtol=1e-4)
    assert not torch.allclose(clips[0, -1], clips[1, -1])


def test_the_command_shows_them_side_by_side(run: Path, random_domain: Path, tmp_path: Path):  # noqa: F811
    from PIL import Image

    asked = ["sample", str(run), "--clips", "4", "--frames", "5", "--device", "cpu"]
    for what in content_motion.SHARED:
        assert cli.run([*asked, "--share", what, "--out", str(tmp_path / what)]) == 0
    first, *_, last = (np.asarray(Image.open(path)) for path in sorted((tmp_path / "content").iterdir()))
    quarters = [first[:16, :16], first[:16, 16:], first[16:, :16], first[16:, 16:]]
    first_of_all = quarters[0].astype(int)  # pictures of one batch, which may round a byte of each the other way
    assert all(np.abs(quarter - first_of_all).max() <= 1 for quarter in quarters)
    assert np.abs(last[:16, :16].astype(int) - last[:16, 16:]).max() > 1
    sampler, domain = Sampler.load(run), Domain.load(random_domain)
    clips = content_motion.clips_sharing(sampler, domain, "content", 4, 5, 0)
    assert np.abs(clips[0, 0] - first_of_all).max() <= 1
    assert clips.shape == (4, 5, 16, 16, 3)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--share", "faces", "--clips", "2"], "--share faces: unknown; one of motion, content"),
        (["--share", "motion"], "--clips 1: nothing to share with; give 2 or more"),
        (["--share", "motion", "--clips", "2", "--subject", "x.jpg"], "--subject: is another content for all clips"),
    ],
)
def test_bad_input_is_one_line(flags: list[str], words: str, run: Path, tmp_path: Path, capsys):  # noqa: F811
    assert cli.run(["sample", str(run), "--out", str(tmp_path / "clip.mp4"), "--device", "cpu", *flags]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert words in error
    assert not (tmp_path / "clip.mp4").exists()


def test_a_model_that_has_them_together_is_refused(run: Path, random_domain: Path):  # noqa: F811
    latents = made_latents(run.parents[2] / "latents", Domain.load(random_domain))
    state = registry.build_state(recipes.make("tiny", components=4), make_space("pca", latents, 4))
    sampler = Sampler.from_state(state)
    with pytest.raises(UserError, match="tiny does not take content and motion apart"):
        content_motion.sharing(sampler, "motion")
