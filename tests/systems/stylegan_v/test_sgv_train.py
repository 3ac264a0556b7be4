"""Training StyleGAN-V: resuming, its schedules, two workers, bad values; and its clips, which it renders by itself."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from made_sgv import made_latents, made_source, made_state, numbers, small

from svgan.errors import NonFiniteLoss, UserError
from svgan.images.domain import Domain, to_network, to_uint8
from svgan.images.frame_bank import kept_frames
from svgan.metrics import fvd
from svgan.metrics.protocol import Protocol
from svgan.reports import html_page
from svgan.runs.validation import latent_judge
from svgan.sampling import render
from svgan.sampling.sampler import Sampler
from svgan.systems.stylegan_v.augment import EVERY
from svgan.systems.stylegan_v.source import SparseClips
from svgan.systems.stylegan_v.state import StyleGANVState
from svgan.systems.stylegan_v.step import iterate
from svgan.torch_utils.distributed import SINGLE, Process, current_process
from svgan.training import checkpoint, recipes, registry
from svgan.training.checkpoint_manager import FolderKeeper
from svgan.training.data import Material
from svgan.training.loop import train


@pytest.fixture(scope="module", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SVGAN_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def latents(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("sgv") / "latents"


@pytest.fixture(scope="module")
def sampler(latents: Path, random_domain: Path) -> Sampler:
    config = small()
    return Sampler.from_state(train(config, made_source(latents, random_domain, config), meta={"fps": 25.0}))


def test_it_trains_resumes_to_the_bit_and_samples(latents: Path, random_domain: Path, tmp_path: Path):
    config, domain = small(steps=6, r1_every=2, augment_clips=20), Domain.load(random_domain)
    source = made_source(latents, random_domain, config)
    judge = latent_judge(source, 0, Material(domain=domain, latents=made_latents(latents, domain)))
    whole = train(config, source, evaluate=judge, report_every=2)
    assert [report["step"] for report in whole.history] == [2, 4, 6]
    assert all(math.isfinite(value) for report in whole.history for value in report.values())
    keeper = FolderKeeper(tmp_path)
    half = small(steps=3, r1_every=2, augment_clips=20)
    train(half, source, keeper=keeper, evaluate=judge, report_every=3)
    again = train(config, made_source(latents, random_domain, config), keeper=keeper, report_every=3)
    ours, theirs = again.tensors(), whole.tensors()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    loaded = Sampler.load(tmp_path / "step-00000006")
    codes = loaded.codes(2, 9, 0)
    torch.testing.assert_close(codes, Sampler.from_state(whole).codes(2, 9, 0))
    assert np.array_equal(loaded.render_own(codes[0]), Sampler.from_state(whole).render_own(codes[0]))


def test_clips_are_frames_of_one_window_at_the_times_that_are_told(latents: Path, random_domain: Path):
    source, domain = made_source(latents, random_domain, small()), Domain.load(random_domain)
    clips, times = source.draw(8, seed=1, step=2)
    assert clips.shape == (8, 3, 3, 16, 16)
    assert set((times[:, -1] - times[:, 0]).tolist()) <= {2, 4, 8}
    footage = domain.render(made_latents(latents, domain).codes)
    pictures = to_uint8(clips.flatten(0, 1)).reshape(8, 3, 16, 16, 3).astype(int)
    for clip, at in zip(pictures, times.tolist(), strict=True):
        apart = np.abs(footage.astype(int) - clip[0]).max((1, 2, 3))
        begin = int(apart.argmin())
        rows = [begin + t - at[0] for t in at]
        assert max(rows) // 60 == begin // 60, "of one video"
        assert np.abs(footage[rows].astype(int) - clip).max() <= 1
    for rank in range(2):
        part, own = source.draw(8, seed=1, step=2, rank=rank, world=2)
        rows = slice(4 * rank, 4 * rank + 4)
        assert torch.equal(part, clips[rows])
        assert torch.equal(own, times[rows])
    with pytest.raises(UserError, match="batch: 5 clips do not divide among 2 workers"):
        source.draw(5, seed=0, step=0, world=2)


def test_the_footage_is_rendered_once_and_a_broken_file_of_it_anew(
    latents: Path, random_domain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
):
    monkeypatch.setenv("SVGAN_CACHE", str(tmp_path))
    domain = Domain.load(random_domain)
    stored = made_latents(latents, domain)
    told = []
    for spoil in (None, None, lambda file: file.write_bytes(file.read_bytes()[:1000])):
        if spoil:
            (file,) = (tmp_path / "frames").glob("*.npy")
            spoil(file)
        assert np.array_equal(kept_frames(domain, stored.codes, stored.digest), domain.render(stored.codes))
        told.append("rendering 120 frames of the footage once" in capsys.readouterr().err)
    assert told == [True, False, True]


def test_recorded_frames_take_the_place_of_renderings(latents: Path, random_domain: Path):
    domain, source = Domain.load(random_domain), made_source(latents, random_domain, small())
    stored = made_latents(latents, domain)
    recorded = np.random.default_rng(0).integers(0, 256, (120, 16, 16, 3), np.uint8)
    own = SparseClips(small(), domain, stored, source.space, torch.device("cpu"), recorded)
    rows = torch.tensor([[3, 70]])
    torch.testing.assert_close(own.frames[rows], to_network(recorded[[3, 70]], 16)[None], atol=1e-2, rtol=0)
    with pytest.raises(UserError, match="footage: 7 recorded frames for 120 codes"):
        SparseClips(small(), domain, stored, source.space, torch.device("cpu"), recorded[:7])


def test_r1_comes_every_so_often_and_the_probability_moves_every_fourth_step(latents: Path, random_domain: Path):
    config = small(r1_every=3, augment_clips=64)
    source = made_source(latents, random_domain, config)
    state, p, penalised = made_state(source, config), [], []
    with torch.no_grad():
        state.critic.out.bias.fill_(100)  # sure that all is real
        state.critic.differences.layers[-1].bias.fill_(1000)
    for _ in range(2 * EVERY):
        figures = iterate(state, source, SINGLE)
        penalised.append("r1" in figures)
        p.append(float(figures["augmented"]))
        assert float(figures["real_sign"]) == 1
        state.step += 1
    assert penalised == [step % 3 == 0 for step in range(2 * EVERY)]
    assert p == [0.0] * EVERY + [0.25] * EVERY  # 16 clips of 64
    assert float(state.adaptation.p) == 0.5
    off = small(augment_clips=0, r1_gamma=0)
    state = made_state(source, off)
    assert "r1" not in iterate(state, source, SINGLE)
    assert not state.adaptation.signs.any()


def test_the_penalty_counts_as_often_as_it_is_lazy(latents: Path, random_domain: Path, monkeypatch: pytest.MonkeyPatch):
    from svgan.systems.stylegan_v import step

    seen: list[torch.Tensor] = []

    def caught(state, part, gradients, figures, extras, process):
        seen.append(torch.cat([g.flatten() for g in gradients]))
        return figures

    monkeypatch.setattr(step, "descend", caught)
    source = made_source(latents, random_domain, small())
    for gamma, every in ((0.0, 1), (3.0, 1), (3.0, 4)):
        config = small(r1_gamma=gamma, r1_every=every)
        step.critic_step(made_state(source, config), source, SINGLE)
    torch.testing.assert_close(seen[2] - seen[0], 4 * (seen[1] - seen[0]), rtol=1e-3, atol=1e-5)
    assert float((seen[1] - seen[0]).norm()) > 0


def test_the_average_follows_the_generator(latents: Path, random_domain: Path):
    config = small(ema=0.9)
    source = made_source(latents, random_domain, config)
    state = made_state(source, config)
    first = state.ema.synthesis.const.clone()
    iterate(state, source, SINGLE)
    assert torch.equal(state.ema.synthesis.const, state.motion.synthesis.const)  # the first step has no past
    assert not torch.equal(state.ema.synthesis.const, first)
    state.step, before = 10_000, state.ema.synthesis.const.clone()
    iterate(state, source, SINGLE)
    torch.testing.assert_close(state.ema.synthesis.const, before.lerp(state.motion.synthesis.const, 0.1))
    assert torch.equal(state.ema.synthesis.w_avg, state.motion.synthesis.w_avg)
    assert state.ema.synthesis.w_avg.any()


@pytest.mark.parametrize("name", ["motion", "critic"])
def test_a_nan_stops_the_run_before_it_reaches_the_weights(name: str, latents: Path, random_domain: Path):
    config = small()
    source = made_source(latents, random_domain, config)
    state = made_state(source, config)
    with torch.no_grad():
        next(state.modules()[name].parameters()).flatten()[0] = math.nan
    before = numbers(state)
    with pytest.raises(NonFiniteLoss, match="at step 0"):
        iterate(state, source, SINGLE)
    after = numbers(state)
    assert all(torch.equal(before[key].nan_to_num(), after[key].nan_to_num()) for key in before)


def two_steps(process: Process, latents: Path, domain: Path) -> dict:
    config = small(steps=2, batch=8, r1_every=1, lr=1e-4)
    source = made_source(latents, domain, config)
    state = made_state(source, config)
    state.adaptation.p.fill_(0.5)
    state = train(config, source, state=state, process=process, report_every=1)
    return {"tensors": numbers(state), "history": state.history}


def worker(rank: int, store: str, latents: Path, domain: Path, out: str) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    torch.save(two_steps(current_process(), latents, domain), f"{out}.{rank}")
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_two_workers_learn_what_one_does(latents: Path, random_domain: Path, tmp_path: Path):
    """Adam makes whole steps of gradients that are rounding alone, so the sums of two steps may differ by those."""
    alone, out = two_steps(SINGLE, latents, random_domain), str(tmp_path / "out")
    torch.multiprocessing.spawn(worker, (str(tmp_path / "store"), latents, random_domain, out), nprocs=2)
    first, second = (torch.load(f"{out}.{rank}", weights_only=True) for rank in range(2))
    assert all(torch.equal(first["tensors"][name], second["tensors"][name]) for name in first["tensors"])
    for name, tensor in alone["tensors"].items():
        torch.testing.assert_close(first["tensors"][name], tensor, atol=4e-4, rtol=1e-3, msg=name)
    for report, other in zip(alone["history"], first["history"], strict=True):
        assert {k: pytest.approx(v, rel=1e-3, abs=1e-4) for k, v in report.items()} == other


def test_bfloat16_trains_and_keeps_float32_weights(latents: Path, random_domain: Path):
    exact, rough = small(steps=1), small(steps=1, precision="bfloat16")
    states = [train(c, made_source(latents, random_domain, c), report_every=1) for c in (exact, rough)]
    assert all(t.dtype in (torch.float32, torch.float64) for t in states[1].tensors().values())
    assert states[1].history[0]["critic_loss"] == pytest.approx(states[0].history[0]["critic_loss"], rel=0.05)


def test_a_checkpoints_size_is_known_without_making_one(latents: Path, random_domain: Path):
    config = small()
    source = made_source(latents, random_domain, config)
    with torch.device("meta"):
        planned = StyleGANVState.build(config, source.space, device="meta").tensors()
    found = made_state(source, config).tensors()
    assert {name: t.shape for name, t in planned.items()} == {name: t.shape for name, t in found.items()}


def test_frames_at_whole_times_are_the_same_at_any_rate(sampler: Sampler, random_domain: Path):
    domain = Domain.load(random_domain)
    at = {fps: sampler.timed(fps).codes(2, fps + 1, 3) for fps in (25, 50)}
    pictures = {fps: sampler.render(codes.flatten(0, 1), domain).astype(int) for fps, codes in at.items()}
    twice = pictures[50].reshape(2, 51, 16, 16, 3)
    assert np.abs(twice[:, ::2][:, :26] - pictures[25].reshape(2, 26, 16, 16, 3)).max() <= 1
    later = sampler.timed(None, 0.4).codes(2, 16, 3)
    torch.testing.assert_close(later, at[25][:, 10:], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(torch.cat(list(sampler.stream(2, 26, 3, chunk=7)), 1), at[25], rtol=1e-4, atol=1e-5)
    assert np.abs(np.diff(twice, axis=1)).max() > 0, "and it moves"


def test_truncation_is_of_the_content(sampler: Sampler):
    whole, half = sampler.codes(3, 5, 1), sampler.codes(3, 5, 1, truncation=0.5)
    mean = sampler.motion.synthesis.w_avg
    torch.testing.assert_close(half[..., :8] - mean, 0.5 * (whole[..., :8] - mean))
    assert torch.equal(half[..., 8:], whole[..., 8:])


def test_its_clips_go_wherever_a_domains_would(sampler: Sampler, random_domain: Path, latents: Path):
    """To frames of a file, to the judges of frames, of codes, and to a report page."""
    domain = Domain.load(random_domain)
    codes = sampler.codes(2, 12, 0)
    own = np.stack([sampler.renderer.render(clip) for clip in codes])
    frames = np.stack(list(render.frames(sampler, domain, clips=2, length=12)))
    # Both clips' frames are rendered in one batch there: a byte may round the other way.
    assert np.abs(frames - np.concatenate([own[0], own[1]], 2).astype(int)).max() <= 1
    protocol = Protocol(name="p", clips=2, frames=12, rollout=12)
    shown = np.stack(list(fvd.render_clips(domain, protocol, map(sampler.render_own, codes))))
    assert np.array_equal(shown, own)
    coordinates = sampler.coordinates(2, 12, 0, domain)
    read = torch.from_numpy(domain.encode(own.reshape(24, 16, 16, 3))).unflatten(0, (2, 12))
    torch.testing.assert_close(coordinates, sampler.space.encode(read), rtol=1e-4, atol=1e-4)
    told = {"protocols": {}, "figures": {}, "warnings": []}
    made = html_page.model_page("one", {}, told, sampler, domain, made_latents(latents, domain))
    assert made.count("<img") == 4
    with pytest.raises(UserError, match="--subject: stylegan-v has its own renderer"):
        render.make_mover(sampler, np.zeros((6, 8)), "plain", lambda: made_latents(latents, domain))


def test_a_record_comes_back_as_the_same_run():
    config = small()
    again = registry.read_config(config.to_json())
    assert again == config
    assert again.digest() == config.digest() != recipes.make("stylegan-v").digest()
    assert config.to_json()["system"] == "stylegan-v"


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ({"frames": 0}, "frames: must be a whole number of 1 or more"),
        ({"window": 2}, "window: 2 frames cannot hold a clip of 3; give 3 or more"),
        ({"frames": 4, "window": 4}, "window: 4 frames cannot hold a clip of 4; give 5 or more"),
        ({"frames": 34, "window": 40}, "frames: 34, but a clip spans at most 32"),
        ({"distance": 2000}, "distance: anchors 2000 frames apart, but the longest period is 1024"),
        ({"width": 7}, "width: 7 is odd"),
        ({"channel_max": 1}, "channel_max: must be 2 or more"),
        ({"r1_gamma": -1}, "r1_gamma: must be a number of 0 or more"),
        ({"r1_every": 0}, "r1_every: must be a whole number of 1 or more"),
        ({"augment_clips": -1}, "augment_clips: must be a whole number of 0 or more"),
        ({"critic": "tconv"}, "critic: no such field"),
    ],
)
def test_bad_values_name_their_field(overrides: dict, words: str):
    with pytest.raises(UserError) as caught:
        small(**overrides)
    assert str(caught.value).startswith(words)


def test_what_does_not_suit_the_footage_is_refused(latents: Path, random_domain: Path):
    with pytest.raises(UserError, match=r"joined: 16 px, but frames of 16 px .* give joined=4"):
        made_source(latents, random_domain, small(joined=16))
    with pytest.raises(UserError, match=r"window: 61 frames, but the longest run .* has 60"):
        made_source(latents, random_domain, small(window=61))


def test_a_checkpoint_is_read_back_without_the_domain(sampler: Sampler, latents: Path, random_domain: Path, tmp_path):
    source = made_source(latents, random_domain, small())
    kept = checkpoint.save(made_state(source, small()), tmp_path / "point")
    found = checkpoint.load(kept)
    assert found.space.spec()["resolution"] == 16
    assert found.motion.synthesis.config == sampler.motion.synthesis.config
