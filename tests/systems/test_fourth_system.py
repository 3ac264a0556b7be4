"""A system of a package that svgan does not know: trained, resumed, sampled and judged with no line changed; and one
that lacks a part is refused by name. Its study is in tests/sweeps/test_fourth_system_ray.py."""

import dataclasses
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from fourth_system import SYSTEM, LinesConfig, LinesState
from made_fourth import fourth  # noqa: F401  (a fixture)
from made_world import made_world

from svgan import cli
from svgan.errors import UserError
from svgan.training import checkpoint, recipes, registry
from svgan.training.state import State

pytestmark = pytest.mark.usefixtures("fourth")


@pytest.fixture(scope="module")
def world(random_domain: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Path]]:
    yield from made_world(random_domain, tmp_path_factory)


def trained(world: dict[str, Path], name: str, *flags: str) -> Path:
    """A run of `lines`, or of --resume."""
    out = world["folder"] / name
    assert cli.run(["train", "--out", str(out), "--device", "cpu", *flags]) == 0
    return out / "checkpoints" / "step-00000006"


def test_it_trains_and_resumed_equals_unbroken(world: dict[str, Path]):
    where = ["--recipe", "lines", "--latents", str(world["one"]), "--domain", str(world["domain"])]
    where += ["--report-every", "3", "--set", "speed=0.2"]
    whole = trained(world, "whole", *where)
    assert cli.run(["train", "--out", str(world["folder"] / "half"), "--device", "cpu", *where, "--steps", "3"]) == 0
    half = trained(world, "half", "--resume", "--steps", "6")
    ours, theirs = (checkpoint.load(folder) for folder in (half, whole))
    assert isinstance(ours, LinesState)
    assert isinstance(ours.config, LinesConfig)
    assert (ours.config.speed, ours.config.recipe) == (0.2, "lines")
    assert all(torch.equal(ours.tensors()[name], tensor) for name, tensor in theirs.tensors().items())
    assert ours.history == theirs.history
    assert {report["step"] for report in ours.history} == {3, 6}
    assert all(report["latent_fd"] > 0 for report in ours.history)


def test_it_is_sampled_and_judged_by_processes_of_their_own(world: dict[str, Path], tmp_path: Path):
    run = world["folder"] / "whole"
    loops = ["--protocol", "svg-short", "--metrics", "loops", "--latents", str(world["long"])]
    for command in (
        ["sample", str(run), "--out", str(tmp_path / "clip.mp4"), "--frames", "12"],
        ["evaluate", str(run), *loops, "--clips", "2", "--device", "cpu"],
    ):
        done = subprocess.run([sys.executable, "-m", "svgan.cli", *command], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "clip.mp4").stat().st_size > 500


def test_what_it_cannot_do_is_refused(world: dict[str, Path], capsys: pytest.CaptureFixture):
    where = ["--out", str(world["folder"] / "no"), "--latents", str(world["one"]), "--domain", str(world["domain"])]
    assert cli.run(["train", *where, "--recipe", "lines", "--footage"]) == 2
    assert "--footage: " in capsys.readouterr().err
    assert cli.run(["train", *where, "--recipe", "line"]) == 2
    assert "recipe: 'line' is unknown; one of tiny, pca, paper" in capsys.readouterr().err
    assert cli.run(["train", *where, "--recipe", "lines", "--set", "components=0"]) == 2
    assert "components: must be a whole number of 1 or more, got 0" in capsys.readouterr().err


def test_a_system_without_a_part_is_refused_by_name():
    @dataclasses.dataclass(eq=False, kw_only=True)
    class Stateless(State):
        pass

    with pytest.raises(UserError, match="system 'lines': Stateless lacks make_modules; define it"):
        registry.register(dataclasses.replace(SYSTEM, state=Stateless))
    with pytest.raises(UserError, match="system 'lines': has no recipe; give it one"):
        registry.register(dataclasses.replace(SYSTEM, recipes={}))
    with pytest.raises(TypeError, match="'iterate'"):
        registry.System(**{name: value for name, value in vars(SYSTEM).items() if name != "iterate"})


def test_a_name_is_taken_once():
    registry.register(SYSTEM)
    with pytest.raises(UserError, match="system 'lines': is registered already; choose another name"):
        registry.register(dataclasses.replace(SYSTEM, iterate=lambda state, source, process: {}))
    other = type("Other", (LinesConfig,), {"system": "other"})
    with pytest.raises(UserError, match="system 'other': another one has a recipe 'tiny'; choose another name"):
        registry.register(dataclasses.replace(SYSTEM, config=other, recipes={"tiny": SYSTEM.recipes["lines"]}))
    assert [name for name in recipes.names() if name in ("tiny", "lines")] == ["tiny", "lines"]
    with pytest.raises(UserError, match="system: 'fifth' is unknown; one of codes, mocogan-hd, stylegan-v, lines"):
        registry.read_config({"system": "fifth"})
