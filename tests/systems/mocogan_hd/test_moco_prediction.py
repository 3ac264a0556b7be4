"""A first frame continued: it stays itself, and what comes next is measured beside the frame kept."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from made_moco import made_source, made_state, small

from svgan import cli
from svgan.errors import UserError
from svgan.images.domain import Domain
from svgan.latents.manifest import VideoCodes
from svgan.latents.origins import Origins
from svgan.latents.shards import open_latents, write_latents
from svgan.latents.spaces import make_space
from svgan.metrics.domain_report import psnr, ssim
from svgan.runs.folder import Run
from svgan.sampling import prediction
from svgan.sampling.sampler import Sampler
from svgan.training import checkpoint, recipes, registry
from svgan.training.data import Material


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, random_domain: Path) -> Path:
    """The folder of a run that has moved nothing yet but its M."""
    folder, config = tmp_path_factory.mktemp("predict"), small()
    source = made_source(folder / "latents", random_domain, config)
    state = made_state(source, config)
    state.meta = {"domain": Domain.load(random_domain).digest, "latents": source.latents.digest, "fps": 25.0}
    torch.nn.init.normal_(state.ema.combine.weight, generator=torch.Generator().manual_seed(0))
    checkpoint.save(state, folder / "run" / "checkpoints" / "step-00000000")
    Run(config=config, domain=str(random_domain), latents=str(folder / "latents"), report_every=1).save(folder / "run")
    return folder / "run" / "checkpoints" / "step-00000000"


def test_a_clip_begins_with_the_frame_and_keeps_what_is_not_motion(run: Path):
    sampler = Sampler.load(run)
    codes = torch.randn(3, 6, 8, generator=torch.Generator().manual_seed(1))  # of W+: layers differ
    clips = prediction.continued(sampler, codes, 9, 0)
    assert clips.shape == (3, 9, 6, 8)
    torch.testing.assert_close(clips[:, 0], codes)
    moved = clips - codes[:, None]
    assert moved[:, -1].abs().max() > 1e-3
    torch.testing.assert_close(moved, moved[:, :, :1].expand_as(moved), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(prediction.continued(sampler, codes, 5, 0), clips[:, :5])
    assert not torch.equal(prediction.continued(sampler, codes, 9, 1)[:, -1], clips[:, -1])


def of_stride_two(sampler: Sampler) -> Sampler:
    config = sampler.meta["config"] | {"half_speed": False}
    return Sampler(sampler.motion, sampler.space, sampler.meta | {"config": config})


def test_figures_are_those_of_the_pictures(run: Path, random_domain: Path):
    sampler, domain = Sampler.load(run), Domain.load(random_domain)
    latents = made_source(run.parents[2] / "latents", random_domain, small()).latents
    material = Material(domain=domain, latents=latents)
    found = prediction.measured(sampler, material, clips=2, length=4, seed=0)
    assert (found.clips, found.frames) == (2, 4)
    kept, ours = [], []
    firsts = torch.from_numpy(latents.codes[[0, 56]])
    for start, made in zip((0, 56), prediction.continued(sampler, firsts, 4, 0), strict=True):
        truth, frames = domain.render(latents.codes[start : start + 4]), domain.render(made)
        for t in (1, 2, 3):
            for shown, sums in ((truth[0], kept), (frames[t], ours)):
                error = np.square(shown.astype(float) - truth[t]).mean()
                sums.append((psnr(error), ssim(shown[None], truth[t][None])))
    byte = 1e-3  # pictures rendered in other batches may differ by one in some bytes
    assert (found.frozen_psnr, found.frozen_ssim) == pytest.approx(np.mean(kept, 0), rel=byte)
    assert (found.psnr, found.ssim) == pytest.approx(np.mean(ours, 0), rel=byte)
    every_second = prediction.measured(of_stride_two(sampler), material, clips=1, length=4, seed=0)
    truth = domain.render(latents.codes[[0, 2, 4, 6]])
    frozen = [psnr(np.square(truth[0].astype(float) - frame).mean()) for frame in truth[1:]]
    wide = every_second.frozen_psnr
    assert wide == pytest.approx(np.mean(frozen), rel=byte), "frames as far apart as a sampled clip's"
    with pytest.raises(UserError, match="window: 61 frames"):
        prediction.measured(sampler, material, clips=2, length=61, seed=0)


def test_footage_held_out_is_measured_against_its_recorded_frames(
    run: Path, random_domain: Path, tmp_path: Path, capsys: pytest.CaptureFixture
):
    domain = Domain.load(random_domain)
    later = np.random.default_rng(3).normal(size=(20, 6, 8)).astype(np.float32)
    places = {"landmarks": np.zeros((20, 68, 2), np.float32), "transform": np.zeros((20, 2, 3), np.float32)}
    origins = Origins(source="later", pts=np.arange(20), time=np.arange(20) / 25, **places)
    recorded = np.random.default_rng(4).integers(0, 256, (20, 16, 16, 3), np.uint8)
    video = VideoCodes("later", np.arange(20), later, origins)
    common = {"domain": domain.digest, "fps": 25, "components": 4}
    write_latents(tmp_path / "later", [video], recorded=lambda name, origins: recorded, **common)
    asked = ["predict", str(run), "--clips", "1", "--frames", "3", "--latents", str(tmp_path / "later"), "--footage"]
    written = tmp_path / "figures.json"
    assert cli.run([*asked, "--device", "cpu", "--out", str(tmp_path / "clip.gif"), "--json", str(written)]) == 0
    assert "against recorded frames; held out" in capsys.readouterr().out
    found = json.loads(written.read_text())
    assert found["held_out"] is True
    codes = open_latents(tmp_path / "later").codes
    own = [psnr(np.square(domain.render(codes[t : t + 1])[0].astype(float) - recorded[t]).mean()) for t in (1, 2)]
    kept = [psnr(np.square(recorded[0].astype(float) - recorded[t]).mean()) for t in (1, 2)]
    assert found["bound_psnr"] == pytest.approx(np.mean(own), rel=1e-3)  # a byte may differ: rendered one by one here
    assert found["frozen_psnr"] == pytest.approx(np.mean(kept))


def test_the_command_says_how_well(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture):
    asked = ["predict", str(run), "--clips", "2", "--frames", "4", "--device", "cpu"]
    assert cli.run([*asked, "--out", str(tmp_path / "clip"), "--json", str(tmp_path / "figures.json")]) == 0
    told = capsys.readouterr().out
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert list(figures) == ["clips", "frames", "psnr", "ssim", "frozen_psnr", "frozen_ssim", "held_out"]
    assert "against the codes, rendered; learnt from" in told
    assert f"frozen_ssim  {figures['frozen_ssim']:.3f}".rstrip("0") in told
    assert len(list((tmp_path / "clip").iterdir())) == 4


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--frames", "1"], "--frames 1: must be 2 or more"),
        (["--clips", "0"], "--clips 0: must be 1 or more"),
        (["--first-frame", "{folder}/none.jpg"], "none.jpg"),
        (["--first-frame", "{folder}/blank.png"], "--first-frame {folder}/blank.png: no face found"),
        (["--first-frame", "{folder}/blank.png", "--json", "{folder}/x.json"], "--json: a photo's future"),
        (["--first-frame", "{folder}/blank.png", "--footage"], "--footage: a photo's future"),
        (["--footage"], "keeps no recorded frames beside its codes; embed the videos"),
    ],
)
def test_bad_input_is_one_line(flags: list[str], words: str, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture):
    from PIL import Image

    Image.new("RGB", (200, 200), (90, 90, 90)).save(tmp_path / "blank.png")
    flags = [flag.format(folder=tmp_path) for flag in flags]
    assert cli.run(["predict", str(run), "--out", str(tmp_path / "clip.mp4"), "--device", "cpu", *flags]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert words.format(folder=tmp_path) in error
    assert not (tmp_path / "clip.mp4").exists()


def test_a_model_that_starts_from_noise_is_refused(run: Path, random_domain: Path):
    latents = made_source(run.parents[2] / "latents", random_domain, small()).latents
    config = recipes.make("tiny", components=4)
    sampler = Sampler.from_state(registry.build_state(config, make_space("pca", latents, 4)))
    with pytest.raises(UserError, match="starts from noise"):
        prediction.continued(sampler, torch.zeros(1, 6, 8), 4, 0)
