"""Motion of one domain's footage for another domain's pictures: what is rendered by which, and what is refused."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from made_moco import CROSS, made_latents, made_state, small
from made_world import another_domain

from svgan import cli
from svgan.errors import UserError
from svgan.images.domain import Domain, to_uint8
from svgan.metrics import long_clips
from svgan.metrics.latent import LatentDistance
from svgan.runs import training, validation
from svgan.runs.folder import Run
from svgan.runs.loading import find_checkpoint
from svgan.sampling.judged_pictures import prepare_for_judges
from svgan.sampling.sampler import Sampler
from svgan.systems.mocogan_hd import recipes as mocogan_hd
from svgan.systems.mocogan_hd.source import FrameSource
from svgan.training import recipes, registry
from svgan.training.data import Material

FLAGS = ["--recipe", "mocogan-hd-cross", "--device", "cpu", "--steps", "2", "--report-every", "1"]


@pytest.fixture(scope="module")
def dogs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return another_domain(tmp_path_factory.mktemp("dogs") / "dogs", 8)


def test_the_footages_generator_shows_what_is_real_and_the_other_one_what_is_made(
    dogs: Path, random_domain: Path, tmp_path: Path
):
    footage, pictures = Domain.load(random_domain), Domain.load(dogs)
    latents = made_latents(tmp_path / "latents", footage)
    pair = Material(domain=footage, latents=latents, pictures=pictures)
    source = registry.make_source(small(**CROSS), pair, "cpu")
    assert isinstance(source, FrameSource)
    alone = registry.make_source(small(**CROSS), Material(domain=footage, latents=latents), "cpu")
    assert isinstance(alone, FrameSource)
    assert torch.equal(source.draw(2, seed=0, step=0), alone.draw(2, seed=0, step=0))
    codes = torch.randn(3, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        made = source.render(codes)
    assert made.shape == (3, 3, 8, 8)
    shown = to_uint8(source.render.pictures(codes)).astype(int)
    assert np.abs(shown - to_uint8(made)).max() <= 1  # by another way to the same picture: a byte may round otherwise
    assert source.space.layers == pictures.config.num_layers == 8


def test_a_run_of_a_pair_trains_goes_on_and_shows_the_others_pictures(
    dogs: Path, random_domain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(mocogan_hd.RECIPES, "mocogan-hd-cross", lambda **own: small(**CROSS | own))
    monkeypatch.setattr(training, "CLIP_FRAMES", 4)
    latents, out = made_latents(tmp_path / "latents", Domain.load(random_domain)), tmp_path / "run"
    where = ["--domain", str(random_domain), "--latents", str(latents.uri), "--out", str(out)]
    assert cli.run(["train", *where, *FLAGS, "--pictures", str(dogs)]) == 0
    assert Run.load(out).pictures == str(dogs.resolve())
    assert cli.run(["train", "--out", str(out), "--resume", "--steps", "3", "--device", "cpu"]) == 0
    assert cli.run(["sample", str(out), "--frames", "3", "--out", str(tmp_path / "clip"), "--device", "cpu"]) == 0
    from PIL import Image

    assert Image.open(min((tmp_path / "clip").iterdir())).size == (32, 32)
    best = find_checkpoint(out)
    history = json.loads((out / "figures.json").read_text())
    assert best.name == f"step-{min(history, key=lambda report: report['latent_fd'])['step']:08d}"
    assert Sampler.load(best).meta["domain"] == Domain.load(dogs).digest


def test_judges_of_the_footages_domain_see_the_others_pictures(
    dogs: Path, random_domain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """By its encoder, and their movement alone: who is shown counts for nothing."""
    latents = made_latents(tmp_path / "latents", Domain.load(random_domain))
    pair = Material(domain=Domain.load(random_domain), latents=latents, pictures=Domain.load(dogs))
    config = small(**CROSS)
    source = registry.make_source(config, pair, "cpu")
    assert isinstance(source, FrameSource)
    state = made_state(source, config)
    with pytest.raises(UserError, match=f"--pictures {dogs}: is .*, the model was trained with made; restore"):
        prepare_for_judges(Sampler.from_state(state), pair)
    state.meta = pair.meta
    sampler = prepare_for_judges(Sampler.from_state(state), pair)
    codes = sampler.codes(2, 4, seed=0)
    assert codes.shape == (2, 4, 8, 8)
    shown = np.stack([sampler.render_own(clip) for clip in codes])
    assert shown.shape == (2, 4, 32, 32, 3)
    assert np.array_equal(shown[1], pair.pictures.render(codes[1]))
    read = pair.domain.encode(shown.reshape(8, 32, 32, 3)).reshape(2, 4, 6, 8)
    # wplus renders 8 frames at once, shown 4: sums differ in their last bits, and a byte may round the other way, which
    # moves a code by some 1e-6. Codes of different pictures lie 1e-2 apart.
    np.testing.assert_allclose(sampler.wplus(codes, pair.domain).numpy(), read, rtol=0, atol=1e-4)
    monkeypatch.setattr(validation, "RENDERED_CLIPS", 6)
    figure = validation.latent_judge(source, 0, pair)(state)["latent_fd"]
    windows = source.windows(validation.JUDGED_CLIPS, 0)
    seen = source.judged.encode(sampler.wplus(sampler.codes(6, 4, seed=0), pair.domain))
    seen, windows = (one - one.mean(1, keepdim=True) for one in (seen, windows))
    assert figure == pytest.approx(LatentDistance(windows)(seen), rel=1e-3)


def test_a_runs_figures_are_of_the_others_pictures_against_the_footage(
    dogs: Path, random_domain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
):
    monkeypatch.setitem(mocogan_hd.RECIPES, "mocogan-hd-cross", lambda **own: small(**CROSS | own))
    monkeypatch.setattr(training, "CLIP_FRAMES", 4)
    monkeypatch.setattr(long_clips, "FRAMES", 150)
    monkeypatch.setattr(long_clips, "CLIPS", 2)
    latents, out = made_latents(tmp_path / "latents", Domain.load(random_domain), frames=1700), tmp_path / "run"
    where = ["--domain", str(random_domain), "--latents", str(latents.uri), "--out", str(out)]
    assert cli.run(["train", *where, *FLAGS, "--pictures", str(dogs)]) == 0
    flags = ["--protocol", "svg-short", "--metrics", "loops", "--device", "cpu"]
    capsys.readouterr()
    assert cli.run(["evaluate", str(out), *flags]) == 0
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert told["domain"] == Domain.load(random_domain).digest
    assert told["figures"]["loops/still"]["value"] >= 0
    assert "loops/phi" not in told["figures"]


def test_another_width_of_w_is_one_line(dogs: Path, random_domain: Path, tmp_path: Path, capsys: pytest.CaptureFixture):
    latents = made_latents(tmp_path / "latents", Domain.load(random_domain))
    wide = another_domain(tmp_path / "wide", 12)
    where = ["--domain", str(random_domain), "--latents", str(latents.uri), "--out", str(tmp_path / "run")]
    assert cli.run(["train", *where, *FLAGS, "--pictures", str(wide)]) == 2
    error = capsys.readouterr().err
    assert error == (
        f"svgan: --pictures {wide}: its W has 12 dimensions, that of the footage's domain 8; give two domains of "
        "the same width\n"
    )
    assert not (tmp_path / "run").exists()
    pair = Material(domain=Domain.load(random_domain), latents=latents, pictures=Domain.load(dogs))
    with pytest.raises(UserError, match="--pictures: tiny learns from pictures of the footage's own domain"):
        registry.make_source(recipes.make("tiny"), pair, "cpu")
    with pytest.raises(UserError, match="--pictures: mocogan-hd learns from pictures of the footage's own domain"):
        registry.make_source(small(), pair, "cpu")
