"""What tests of the commands share: codes of several subjects and a trained run, on the random domain."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from svgan import cli
from svgan.images.domain import Domain, save_domain
from svgan.images.encoder import Encoder
from svgan.images.stylegan2 import Generator, StyleGAN2Config
from svgan.latents.manifest import VideoCodes
from svgan.latents.shards import write_latents
from svgan.runs import training


def made_world(random_domain: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Path]]:
    """A domain, codes of two subjects, of long footage and of another domain, and a trained run."""
    folder = tmp_path_factory.mktemp("cli")
    domain, rng = Domain.load(random_domain), np.random.default_rng(0)
    world = {"domain": random_domain, "folder": folder}
    for name, shift in (("one", 0.0), ("two", 3.0)):
        walk = np.cumsum(rng.normal(size=(120, 6, 8)), 0).astype(np.float32) * 0.1 + shift
        write_latents(folder / name, [VideoCodes("v", np.arange(120), walk)], domain=domain.digest, fps=25)
        world[name] = folder / name
    waves = np.sin(np.arange(1700)[:, None, None] / np.random.default_rng(1).uniform(5, 60, (6, 8)))
    write_latents(folder / "long", [VideoCodes("v", np.arange(1700), waves)], domain=domain.digest, fps=25)
    world["long"] = folder / "long"
    write_latents(folder / "short", [VideoCodes("v", np.arange(14), walk[:14])], domain=domain.digest, fps=25)
    world["short"] = folder / "short"
    write_latents(folder / "alien", [VideoCodes("v", np.arange(60), walk[:60])], domain="0" * 16, fps=25)
    world["alien"] = folder / "alien"
    world["run"] = folder / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "CLIP_FRAMES", 30)
        assert train(world, "run", "--steps", "4", "--report-every", "2") == 0
        yield world


def another_domain(folder: Path, width: int) -> Path:
    """Another random domain, of 32 px and so of more layers."""
    torch.manual_seed(width)
    config = StyleGAN2Config(resolution=32, w_dim=width, mapping_layers=2, channels=dict.fromkeys((4, 8, 16, 32), 8))
    save_domain(folder, Generator(config), Encoder(config, widths=(4, 8, 8, 8), reduced=4), {"name": folder.name})
    return folder


def train(world: dict[str, Path], out: str, *flags: str) -> int:
    where = ["--latents", str(world["one"]), "--domain", str(world["domain"]), "--out", str(world["folder"] / out)]
    return cli.run(["train", *where, "--device", "cpu", *flags])


def check_refused(arguments: list[str], words: str, world: dict[str, Path], capsys: pytest.CaptureFixture) -> None:
    """The command ends with 2, one line with these words, and nothing new in the world's folder."""
    names = {name: str(path) for name, path in world.items()} | {"new": str(world["folder"] / "new")}
    before = sorted(world["folder"].rglob("*"))
    assert cli.run([argument.format(**names) for argument in arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("svgan: ")
    assert error.count("\n") == 1
    assert words in error
    assert sorted(world["folder"].rglob("*")) == before
