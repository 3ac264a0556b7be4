"""Checkpoints: whole or absent, equal when read back, refused in one line when they are not ours."""

import json
import resource
import shutil
from pathlib import Path

import pytest
import torch
from made_runs import made_clips, made_state, small
from safetensors.torch import load_file, save_file

from svgan.errors import UserError
from svgan.sampling.sampler import Sampler
from svgan.training import checkpoint
from svgan.training.checkpoint_manager import FolderKeeper
from svgan.training.loop import train
from svgan.training.state import State


@pytest.fixture(scope="module")
def latents(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.getbasetemp() / "made-latents"


@pytest.fixture(scope="module")
def saved(latents: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = small(steps=3)
    state = train(config, made_clips(latents, config), meta={"domain": "made", "latents": "abc", "fps": 25.0})
    return checkpoint.save(state, tmp_path_factory.mktemp("run") / "point")


@pytest.fixture
def copy(saved: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / "copy"))


def forge(folder: Path, change) -> None:
    """Change the tensors and record the right digest of the wrong thing."""
    tensors = load_file(folder / checkpoint.TENSORS)
    change(tensors)
    save_file(tensors, folder / checkpoint.TENSORS)
    record = json.loads((folder / checkpoint.RECORD).read_text())
    record["sha256"] = checkpoint._sha256(folder / checkpoint.TENSORS)
    (folder / checkpoint.RECORD).write_text(json.dumps(record))


def rewrite(folder: Path, **changes) -> None:
    record = json.loads((folder / checkpoint.RECORD).read_text())
    (folder / checkpoint.RECORD).write_text(json.dumps(record | changes))


def test_everything_comes_back(latents: Path, tmp_path: Path):
    config = small(steps=3, space="wplus", components=None)
    state = train(config, made_clips(latents, config), meta={"domain": "made"}, report_every=1)
    back = checkpoint.load(checkpoint.save(state, tmp_path / "point"))
    assert back.config == state.config
    assert (back.step, back.history, back.meta) == (3, state.history, {"domain": "made"})
    ours, theirs = state.tensors(), back.tensors()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_optimiser_averages_are_among_the_tensors(saved: Path):
    tensors = load_file(saved / checkpoint.TENSORS)
    assert tensors["motion_optimizer.affine.weight.exp_avg"].abs().sum() > 0
    assert tensors["critic_optimizer.frame.0.weight.step"] == 6


def test_a_folder_holds_two_files_without_code(saved: Path):
    assert sorted(p.name for p in saved.iterdir()) == ["state.json", "tensors.safetensors"]
    assert [p.name for p in saved.parent.iterdir()] == [saved.name]


def test_saving_again_replaces(latents: Path, tmp_path: Path):
    state = made_state(latents)
    checkpoint.save(state, tmp_path / "point")
    state.step = 5
    checkpoint.save(state, tmp_path / "point")
    assert checkpoint.load(tmp_path / "point").step == 5
    assert [p.name for p in tmp_path.iterdir()] == ["point"]


def test_a_failing_write_leaves_the_old_checkpoint(latents: Path, tmp_path: Path):
    """The system refuses files above 20 kB, as a full disk would."""
    state = made_state(latents)
    checkpoint.save(state, tmp_path / "point")
    state.step = 5
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    try:
        with pytest.raises(UserError, match=r"cannot write .*nothing of it is kept"):
            checkpoint.save(state, tmp_path / "point")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert checkpoint.load(tmp_path / "point").step == 0
    assert [p.name for p in tmp_path.iterdir()] == ["point"]


def test_an_unwritable_place_is_one_line(latents: Path, tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write"):
        checkpoint.save(made_state(latents), tmp_path / "file" / "point")


def test_no_checkpoint(tmp_path: Path):
    with pytest.raises(UserError, match=r"no state\.json"):
        checkpoint.load(tmp_path)


@pytest.mark.parametrize("text", ["{", "[]", '{"format": 1}', '{"format": "x", "config": 3}'])
def test_a_foreign_record(copy: Path, text: str):
    (copy / checkpoint.RECORD).write_text(text)
    with pytest.raises(UserError, match=r"state\.json"):
        checkpoint.load(copy)


def test_another_format(copy: Path):
    rewrite(copy, format=99)
    with pytest.raises(UserError, match="format 99"):
        checkpoint.load(copy)


def test_a_damaged_file_is_named(copy: Path):
    path = copy / checkpoint.TENSORS
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(data)
    for read in (checkpoint.load, checkpoint.load_generator):
        with pytest.raises(UserError, match=r"tensors\.safetensors: damaged"):
            read(copy)


def test_a_truncated_file(copy: Path):
    path = copy / checkpoint.TENSORS
    path.write_bytes(path.read_bytes()[:1000])
    rewrite(copy, sha256=checkpoint._sha256(path))
    with pytest.raises(UserError, match="cannot be read"):
        checkpoint.load(copy)


def test_missing_tensors_file(copy: Path):
    (copy / checkpoint.TENSORS).unlink()
    with pytest.raises(UserError, match="cannot be read"):
        checkpoint.load(copy)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("critic.score.weight"), "critic.score.weight is missing"),
        (lambda t: t.update(extra=torch.zeros(1)), "extra does not belong"),
        (lambda t: t.update({"ema.affine.bias": torch.zeros(9)}), r"ema.affine.bias is .* \[9\]"),
        (lambda t: t.update({"ema.affine.bias": t["ema.affine.bias"].half()}), r"ema.affine.bias is torch.float16"),
        (lambda t: t.pop("space.mean"), "space cannot be rebuilt"),
    ],
)
def test_tensors_that_do_not_fit(copy: Path, change, message: str):
    forge(copy, change)
    with pytest.raises(UserError, match=message):
        checkpoint.load(copy)


def test_a_configuration_that_does_not_fit(copy: Path):
    record = json.loads((copy / checkpoint.RECORD).read_text())
    rewrite(copy, config=record["config"] | {"critic": "nonesuch"})
    with pytest.raises(UserError, match=r"state\.json: critic: 'nonesuch'"):
        checkpoint.load(copy)


def test_a_folder_alone_samples(saved: Path):
    sampler = Sampler.load(saved)
    assert sampler.meta["domain"] == "made"
    assert sampler.meta["step"] == 3
    state = checkpoint.load(saved)
    assert torch.equal(sampler.codes(2, 12, 0), Sampler.from_state(state).codes(2, 12, 0))


class TestFolderKeeper:
    def keep(self, latents: Path, folder: Path, scores: list[float]) -> FolderKeeper:
        keeper, state = FolderKeeper(folder, last=2), made_state(latents)
        for step, score in enumerate(scores, 1):
            state.step = step
            state.history.append({"step": step, "latent_fd": score})
            keeper.save(state)
        return keeper

    def test_the_last_and_the_best_stay(self, latents: Path, tmp_path: Path):
        keeper = self.keep(latents, tmp_path, [5.0, 1.0, 4.0, 3.0, 2.0])
        assert keeper.steps() == [2, 4, 5]
        best = keeper.best()
        assert best is not None
        assert checkpoint.read_record(best)["step"] == 2

    def test_figures_that_are_not_numbers_are_never_best(self, latents: Path, tmp_path: Path):
        assert self.keep(latents, tmp_path, [float("nan"), 1.0, float("nan"), 3.0]).steps() == [2, 3, 4]

    def test_latest_and_leftovers(self, latents: Path, tmp_path: Path):
        (tmp_path / ".step-00000009.xyz.partial").mkdir()
        (tmp_path / "step-notes").mkdir()
        keeper = self.keep(latents, tmp_path, [1.0])
        state = keeper.latest()
        assert isinstance(state, State)
        assert state.step == 1
        assert not list(tmp_path.glob(".step-*"))
        assert (tmp_path / "step-notes").exists()

    def test_an_empty_place(self, tmp_path: Path):
        keeper = FolderKeeper(tmp_path / "new")
        assert keeper.latest() is None
        assert keeper.best() is None
