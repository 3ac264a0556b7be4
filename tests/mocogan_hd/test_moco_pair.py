"""Motion of one domain's footage for another domain's pictures: what is rendered by which, and what is refused."""

from pathlib import Path

import pytest
import torch
from made_moco import CROSS, made_latents, small

from svgan import cli, recipes, runs, systems
from svgan.errors import UserError
from svgan.images.domain import Domain, save_domain, to_uint8
from svgan.images.encoder import Encoder
from svgan.images.stylegan2 import Generator, StyleGAN2Config
from svgan.mocogan_hd.frames import FrameSource
from svgan.runs import Run
from svgan.sample import Sampler

FLAGS = ["--recipe", "mocogan-hd-cross", "--device", "cpu", "--steps", "2", "--report-every", "1"]


def another(folder: Path, width: int, resolution: int = 32) -> Path:
    """Another random domain, of more pixels and layers."""
    torch.manual_seed(width)
    sides = [side for side in (4, 8, 16, 32) if side <= resolution]
    config = StyleGAN2Config(resolution=resolution, w_dim=width, mapping_layers=2, channels=dict.fromkeys(sides, 8))
    save_domain(folder, Generator(config), Encoder(config, widths=(4, 8, 8, 8), reduced=4), {"name": folder.name})
    return folder


@pytest.fixture(scope="module")
def dogs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return another(tmp_path_factory.mktemp("dogs") / "dogs", 8)


def test_the_footages_generator_shows_what_is_real_and_the_other_one_what_is_made(
    dogs: Path, random_domain: Path, tmp_path: Path
):
    footage, pictures = Domain.load(random_domain), Domain.load(dogs)
    latents = made_latents(tmp_path / "latents", footage)
    source = systems.pair_source(small(**CROSS), pictures, footage, latents, "cpu")
    assert isinstance(source, FrameSource)
    alone = systems.source(small(**CROSS), footage, latents, "cpu")
    assert isinstance(alone, FrameSource)
    assert torch.equal(source.draw(2, seed=0, step=0), alone.draw(2, seed=0, step=0))
    codes = torch.randn(3, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        made = source.render(codes)
    assert made.shape == (3, 3, 8, 8)
    assert (to_uint8(source.render.pictures(codes)) == to_uint8(made)).all()
    assert source.space.layers == pictures.config.num_layers == 8


def test_a_run_of_a_pair_trains_goes_on_and_shows_the_others_pictures(
    dogs: Path, random_domain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(recipes.RECIPES, "mocogan-hd-cross", lambda **own: small(**CROSS | own))
    monkeypatch.setattr(runs, "CLIP_FRAMES", 4)
    latents, out = made_latents(tmp_path / "latents", Domain.load(random_domain)), tmp_path / "run"
    where = ["--domain", str(random_domain), "--latents", str(latents.uri), "--out", str(out)]
    assert cli.run(["train", *where, *FLAGS, "--pictures", str(dogs)]) == 0
    assert Run.load(out).pictures == str(dogs.resolve())
    assert cli.run(["train", "--out", str(out), "--resume", "--steps", "3", "--device", "cpu"]) == 0
    assert cli.run(["sample", str(out), "--frames", "3", "--out", str(tmp_path / "clip"), "--device", "cpu"]) == 0
    from PIL import Image

    assert Image.open(min((tmp_path / "clip").iterdir())).size == (32, 32)
    best = runs.checkpoint_of(out)
    assert best.name == "step-00000003"
    assert Sampler.load(best).meta["domain"] == Domain.load(dogs).digest


def test_another_width_of_w_is_one_line(dogs: Path, random_domain: Path, tmp_path: Path, capsys: pytest.CaptureFixture):
    latents = made_latents(tmp_path / "latents", Domain.load(random_domain))
    wide = another(tmp_path / "wide", 12)
    where = ["--domain", str(random_domain), "--latents", str(latents.uri), "--out", str(tmp_path / "run")]
    assert cli.run(["train", *where, *FLAGS, "--pictures", str(wide)]) == 2
    error = capsys.readouterr().err
    assert error == (
        f"svgan: --pictures {wide}: its W has 12 dimensions, that of the footage's domain 8; give two domains of "
        "the same width\n"
    )
    assert not (tmp_path / "run").exists()
    with pytest.raises(UserError, match="--pictures: tiny learns from pictures of the footage's own domain"):
        systems.pair_source(recipes.tiny(), Domain.load(dogs), Domain.load(random_domain), latents, "cpu")
    with pytest.raises(UserError, match="--pictures: mocogan-hd learns from pictures of the footage's own domain"):
        systems.pair_source(small(), Domain.load(dogs), Domain.load(random_domain), latents, "cpu")
