"""The loop: it learns, it resumes to the bit, it stops before a non-finite number, it reports and keeps."""

import math
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from made_runs import made_clips, made_state, numbers, small

from svgan.errors import NonFiniteLoss, UserError
from svgan.sampling.sampler import Sampler
from svgan.systems.stylevideogan.system import ITERATIONS
from svgan.torch_utils.distributed import SINGLE
from svgan.training import registry
from svgan.training.checkpoint_manager import FolderKeeper
from svgan.training.loop import train
from svgan.training.registry import iterate
from svgan.training.state import State, Sums


@pytest.fixture
def latents(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.getbasetemp() / "made-latents"


class Recorder:
    def __init__(self) -> None:
        self.reports: list[tuple[int, dict[str, float]]] = []

    def report(self, step: int, metrics: dict[str, float], state: State) -> None:
        self.reports.append((step, metrics))


def moments_apart(real: torch.Tensor, fake: torch.Tensor) -> float:
    """A rough distance of two sets of clips: means and covariances of their entries."""
    real, fake = real.flatten(1), fake.flatten(1)
    return float((real.mean(0) - fake.mean(0)).norm() + (torch.cov(real.T) - torch.cov(fake.T)).norm())


def test_training_brings_the_clips_nearer(latents: Path):
    config = small(steps=120, batch=16, lr=2e-3, ema=0.9)
    clips = made_clips(latents, config)
    real = clips.windows(256, 0)
    fresh = Sampler.from_state(registry.build_state(config, clips.space)).coordinates(256, config.window, 1)
    trained = Sampler.from_state(train(config, clips)).coordinates(256, config.window, 1)
    assert moments_apart(real, trained) < 0.8 * moments_apart(real, fresh)


def test_acyclic_motion_trains_and_resumes_to_the_bit(latents: Path, tmp_path: Path):
    config = small(motion="acyclic", iteration="plain", gap_weight=0, noise=4)
    clips = made_clips(latents, config)
    whole = train(config, clips)
    train(replace(config, steps=3), clips, keeper=FolderKeeper(tmp_path))
    resumed = train(config, clips, keeper=FolderKeeper(tmp_path))
    ours, theirs = numbers(resumed), numbers(whole)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    fresh = numbers(registry.build_state(config, clips.space))
    assert all(
        not torch.equal(ours[n], fresh[n])
        for n in theirs
        if n.startswith(("motion.acyclic", "ema.")) and "spread" not in n
    )


@pytest.mark.parametrize("critic", ["multiscale", "holistic"])
def test_every_critic_trains(latents: Path, critic: str):
    config = small(critic=critic, steps=3)
    state = train(config, made_clips(latents, config), report_every=3)
    assert all(math.isfinite(value) for value in state.history[0].values())


def test_training_is_the_same_twice_and_leaves_global_randomness_alone(latents: Path):
    config = small()
    clips = made_clips(latents, config)
    before = torch.get_rng_state()
    first = numbers(train(config, clips))
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(1234)
    second = numbers(train(config, clips))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_another_seed_is_another_run(latents: Path):
    clips = made_clips(latents, small())
    one, other = (numbers(train(small(seed=s, steps=1), clips)) for s in (0, 1))
    assert not torch.equal(one["motion.affine.weight"], other["motion.affine.weight"])


def test_killed_and_resumed_equals_undisturbed(latents: Path, tmp_path: Path):
    """A process of its own is killed (-9) at its second report; what another one makes of it is equal to the bit."""
    made_clips(latents, small())
    command = [
        sys.executable,
        str(Path(__file__).parents[1] / "made_runs.py"),
        str(latents),
        str(tmp_path / "killed"),
        "10",
        "4",
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"}) as run:
        assert run.stdout is not None
        for line in run.stdout:
            if line.split() == ["step", "4"]:
                run.send_signal(signal.SIGKILL)
                break
    assert run.returncode == -signal.SIGKILL
    assert FolderKeeper(tmp_path / "killed").steps() == [2]
    config = small(steps=10)
    clips = made_clips(latents, config)
    for name in ("killed", "whole"):
        train(config, clips, keeper=FolderKeeper(tmp_path / name), report_every=2)
    killed, whole = (FolderKeeper(tmp_path / name).latest() for name in ("killed", "whole"))
    assert killed is not None
    assert whole is not None
    assert killed.step == whole.step == 10
    assert killed.history == whole.history
    ours, theirs = numbers(killed), numbers(whole)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_a_finished_run_can_be_lengthened_but_not_changed(latents: Path, tmp_path: Path):
    clips, keeper = made_clips(latents, small()), FolderKeeper(tmp_path)
    train(small(steps=4), clips, keeper=keeper)
    longer = train(small(steps=6), clips, keeper=keeper)
    whole = train(small(steps=6), clips)
    assert all(torch.equal(longer.tensors()[n], t) for n, t in whole.tensors().items())
    with pytest.raises(UserError, match="gap_weight"):
        train(small(steps=8, gap_weight=2), clips, keeper=keeper)


def test_reports_come_on_time_with_their_figures(latents: Path):
    config, recorder = small(steps=5), Recorder()
    state = train(
        config, made_clips(latents, config), reporter=recorder, report_every=2, evaluate=lambda s: {"latent_fd": s.step}
    )
    assert [step for step, _ in recorder.reports] == [2, 4, 5]
    assert [h["step"] for h in state.history] == [2, 4, 5]
    expected = {"critic_loss", "gradient_penalty", "critic_gradient_norm", "generator_loss", "gap", "phi"}
    expected |= {"motion_gradient_norm", "latent_fd", "iterations_per_second"}
    assert recorder.reports[0][1].keys() == expected
    assert 0 < recorder.reports[0][1]["phi"] < math.pi / 2


def test_without_a_weight_gap_is_not_computed(latents: Path):
    config = small(gap_weight=0, steps=2)
    state = train(config, made_clips(latents, config), report_every=1)
    assert "phi" not in state.history[-1]
    assert torch.equal(state.running.first, torch.zeros(8))


class PoisonedClips:
    """Real clips until `step`, NaN from then on."""

    def __init__(self, clips, step: int):
        self.clips, self.space, self.step = clips, clips.space, step

    def draw(self, n: int, *, step: int, **where) -> torch.Tensor:
        clips = self.clips.draw(n, step=step, **where)
        return clips * math.nan if step >= self.step else clips


def test_a_nan_stops_the_run_before_it_reaches_the_weights(latents: Path):
    config = small()
    clips = PoisonedClips(made_clips(latents, config), 3)
    state = registry.build_state(config, clips.space)
    with pytest.raises(NonFiniteLoss, match=r"critic_loss is nan at step 3"):
        train(config, clips, state=state)
    assert state.step == 3
    undisturbed = numbers(train(small(steps=3), clips))
    assert all(torch.equal(t, undisturbed[n]) for n, t in state.tensors().items())


@pytest.mark.parametrize("iteration", ITERATIONS)
def test_an_infinite_generator_loss_names_itself(latents: Path, iteration: str):
    state = made_state(latents, iteration=iteration)
    clips = made_clips(latents, state.config)
    with torch.no_grad():
        state.motion.affine.bias.fill_(1e30)
    before = numbers(state)
    with pytest.raises(NonFiniteLoss, match="at step 0"):
        iterate(state, clips, SINGLE)
    assert all(torch.equal(t, before[n]) for n, t in state.tensors().items())


def test_the_moving_average_follows(latents: Path):
    config = small(steps=1, ema=0.9)
    clips = made_clips(latents, config)
    start = registry.build_state(config, clips.space).motion.affine.weight
    state = train(config, clips)
    torch.testing.assert_close(state.ema.affine.weight, 0.9 * start + 0.1 * state.motion.affine.weight)


def test_a_figure_that_not_every_step_has_is_averaged_over_those_that_have_it():
    sums = Sums()
    for loss, phi in ((1.0, 0.5), (2.0, None), (6.0, None), (7.0, 0.75)):
        sums.add({"loss": torch.tensor(loss)} | ({} if phi is None else {"phi": torch.tensor(phi)}))
    assert sums.means() == Sums.from_json(sums.to_json(), "cpu").means() == {"loss": 4.0, "phi": 0.625}
    before = {"totals": {"loss": 6.0}, "steps": 3}  # as checkpoints had it
    assert Sums.from_json(before, "cpu").means() == {"loss": 2.0}


def test_bfloat16_trains_and_keeps_float32_weights(latents: Path):
    config = small(precision="bfloat16", steps=3)
    state = train(config, made_clips(latents, config), report_every=1)
    assert all(t.dtype == torch.float32 for t in state.tensors().values())
    exact = train(small(steps=3), made_clips(latents, config), report_every=1)
    assert state.history[0]["critic_loss"] == pytest.approx(exact.history[0]["critic_loss"], rel=0.1, abs=0.1)
    assert state.history[0]["phi"] == pytest.approx(exact.history[0]["phi"], rel=1e-3)


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_gpu_trains_the_same_run(latents: Path, precision: str):
    config = small(steps=20, precision=precision)
    latents_on_cpu = made_clips(latents, config)
    clips = type(latents_on_cpu)(latents_on_cpu.latents, config.window, latents_on_cpu.space, "cuda")
    state = train(config, clips, device="cuda", report_every=10)
    assert all(math.isfinite(v) for v in state.history[-1].values())
    assert Sampler.from_state(state).codes(2, 30, 0).device.type == "cuda"


@pytest.mark.parametrize("iteration", ITERATIONS)
def test_a_run_has_the_iteration_of_its_configuration(latents: Path, iteration: str):
    """To the bit."""
    config = small(steps=2, iteration=iteration)
    clips = made_clips(latents, config)
    expected = registry.build_state(config, clips.space)
    for _ in range(config.steps):
        ITERATIONS[iteration](expected, clips, SINGLE)
        expected.step += 1
    theirs = expected.tensors()
    assert all(torch.equal(t, theirs[name]) for name, t in train(config, clips).tensors().items())
