"""Training: the step and its switches, checkpoints, resuming, two workers, bad values."""

import math
from pathlib import Path

import pytest
import torch
from made_moco import CROSS, PAPER, made_source, made_state, numbers, small

from svgan.errors import NonFiniteLoss, UserError
from svgan.sampling.sampler import Sampler
from svgan.systems.mocogan_hd.source import FrameSource
from svgan.systems.mocogan_hd.state import MoCoState
from svgan.systems.mocogan_hd.step import iterate
from svgan.torch_utils.distributed import SINGLE, Process, current_process
from svgan.training import checkpoint, registry
from svgan.training.checkpoint_manager import FolderKeeper
from svgan.training.loop import train

FORMS = {"in-domain": {}, "cross-domain": CROSS, "paper": PAPER}


@pytest.fixture(scope="module")
def latents(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("moco") / "latents"


@pytest.mark.parametrize("form", FORMS)
def test_every_form_trains_resumes_to_the_bit_and_samples(
    form: str, latents: Path, random_domain: Path, tmp_path: Path
):
    config = small(**FORMS[form])
    source = made_source(latents, random_domain, config)
    whole = train(config, source, report_every=1)
    assert [report["step"] for report in whole.history] == [1, 2, 3]
    assert all(math.isfinite(value) for report in whole.history for value in report.values())
    keeper = FolderKeeper(tmp_path)
    train(small(steps=2, **FORMS[form]), source, keeper=keeper, report_every=1)
    again = train(config, made_source(latents, random_domain, config), keeper=keeper, report_every=1)
    ours, theirs = again.tensors(), whole.tensors()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert again.history == whole.history
    sampler = Sampler.load(keeper.steps() and tmp_path / "step-00000003")
    codes = sampler.codes(2, 9, 0)
    assert codes.shape == (2, 9, 6, 8)
    assert (codes == codes[:, :, :1]).all()  # one w for all layers
    torch.testing.assert_close(codes, Sampler.from_state(whole).codes(2, 9, 0))


def test_training_moves_what_it_should(latents: Path, random_domain: Path):
    config = small(**CROSS)
    source = made_source(latents, random_domain, config)
    state = made_state(source, config)
    before, global_state = numbers(state), torch.get_rng_state()
    iterate(state, source, SINGLE)
    after = numbers(state)
    moved = {name.partition(".")[0] for name in before if not torch.equal(before[name], after[name])}
    optimizers = {"generator_optimizer", "video_critic_optimizer", "image_critic_optimizer"}
    networks = {"generator", "ema", "video_critic", "image_critic", "slow", "real_keys", "fake_keys"}
    assert moved == optimizers | networks
    assert not any(".space." in name and not torch.equal(before[name], after[name]) for name in before)
    assert torch.equal(torch.get_rng_state(), global_state)
    decay = config.ema
    assert decay == 0.99


def gradient(state: MoCoState, source: FrameSource, monkeypatch: pytest.MonkeyPatch) -> tuple[torch.Tensor, dict]:
    """The generator's first gradient, and the step's figures, with all weights where they are."""
    from svgan.systems.mocogan_hd import step

    seen: dict[str, torch.Tensor] = {}

    def caught(state, part, gradients, figures, extras, process):
        seen.setdefault(part, torch.cat([g.flatten() for g in gradients]))
        return {name: value.detach() for name, value in figures.items()}

    monkeypatch.setattr(step, "descend", caught)
    figures = step.iterate(state, source, SINGLE)
    return seen, figures


ONLY_CROSS = ("matching_weight", "contrastive_weight")
TERMS = {
    "video_weight": {"video_loss", "video_critic_loss", "gradient_penalty"},
    "image_weight": {"image_loss", "image_critic_loss"},
    "information_weight": {"information"},
    "matching_weight": {"matching"},
    "contrastive_weight": {"contrastive"},
    "gp_weight": {"gradient_penalty"},
}


FORMS = {"in-domain": {}, "cross-domain": CROSS, "paper": PAPER}


@pytest.mark.parametrize(
    ("form", "switch"),
    [(form, switch) for form in FORMS for switch in TERMS if FORMS[form] or switch not in ONLY_CROSS],
)
def test_a_switch_removes_exactly_its_term(
    form: str, switch: str, latents: Path, random_domain: Path, monkeypatch: pytest.MonkeyPatch
):
    """Its figures are gone, every other one is what it was, and the gradients lack its part alone: a term counts as
    often as its weight says. What is left began with the same weights."""
    found, begun = {}, {}
    for weight in (0.0, 1.0, 2.0):
        config = small(**{**FORMS[form], "n_generator": 1, switch: weight})
        source = made_source(latents, random_domain, config)
        state = made_state(source, config)
        begun[weight] = numbers(state)
        found[weight] = gradient(state, source, monkeypatch)
    for name, value in begun[0.0].items():
        assert torch.equal(value, begun[1.0][name]), name
    without, once, twice = (found[weight][1] for weight in (0.0, 1.0, 2.0))
    assert once.keys() - without.keys() == TERMS[switch]
    for name in without.keys() - {"generator_loss"}:
        torch.testing.assert_close(without[name], once[name], atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(twice[name], once[name], atol=1e-5, rtol=1e-4)
    for part, whole in found[1.0][0].items():
        none, double = found[0.0][0].get(part), found[2.0][0][part]
        if (switch, part) == ("image_weight", "image_critic"):
            torch.testing.assert_close(double, whole)  # the weight is of the generator's term; the critic has its own
        elif none is not None:
            left = len(none)  # of the generator's: motion, and then the guess, if there is one
            torch.testing.assert_close((double - whole)[:left], whole[:left] - none, atol=2e-4, rtol=1e-3)


def test_the_ablation_without_the_basis_changes_the_motion_alone(latents: Path, random_domain: Path):
    config = small(basis=False)
    source = made_source(latents, random_domain, config)
    state = train(config, source)
    assert state.motion.residual == "none"
    assert Sampler.from_state(state).codes(1, 5, 0).isfinite().all()


SHARED = {
    "in-domain": {},
    "cross-domain": {**CROSS, "contrastive_weight": 0.0},
    "paper": {**PAPER, "contrastive_weight": 0.0},
    "contrast": {**CROSS, "steps": 1, "n_generator": 1, "queue": 16},
    "paper's contrast": {**PAPER, "steps": 1},
}


def two_steps(process: Process, latents: Path, domain: Path) -> dict:
    found = {}
    for name, overrides in SHARED.items():
        config = small(**{"steps": 2, "batch": 4, **overrides})
        state = train(config, made_source(latents, domain, config), process=process, report_every=1)
        found[name] = {"tensors": numbers(state), "history": state.history}
    return found


def worker(rank: int, store: str, latents: Path, domain: Path, out: str) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    torch.save(two_steps(current_process(), latents, domain), f"{out}.{rank}")
    torch.distributed.destroy_process_group()


def test_two_workers_learn_what_one_does(latents: Path, random_domain: Path, tmp_path: Path):
    """Contrast left out, which is with the rank's own batch: then even losses of means over the batch are one's own.
    With it both have the same weights all the same, and queues of the global batch's keys.

    A relativistic loss does not see what all scores have in common: the last bias's gradient is rounding alone, of
    which Adam makes whole steps. So it does of single weights whose gradient is as small.
    """
    alone, out = two_steps(SINGLE, latents, random_domain), str(tmp_path / "out")
    torch.multiprocessing.spawn(worker, (str(tmp_path / "store"), latents, random_domain, out), nprocs=2)
    first, second = (torch.load(f"{out}.{rank}", weights_only=True) for rank in range(2))
    for form, one in alone.items():
        ours, theirs = first[form]["tensors"], second[form]["tensors"]
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)
        if "contrast" in form:
            queues = {name: tensor for name, tensor in ours.items() if "_keys." in name}
            assert len(queues) == (4 if form == "contrast" else 0)
            for name, tensor in queues.items():
                torch.testing.assert_close(tensor, one["tensors"][name], atol=1e-3, rtol=1e-3, msg=name)
            continue
        near, count = 0, 0
        for name, tensor in one["tensors"].items():
            if ".5.bias" in name and "scales" in name:
                continue
            near += int(torch.isclose(ours[name], tensor, atol=2e-4, rtol=1e-3).sum())
            count += tensor.numel()
            if "optimizer" not in name:
                assert (ours[name] - tensor).abs().max() < 4.1e-3, f"{form}: {name}: two steps to the other side"
        assert near > 0.9 * count, form
        for report, other in zip(one["history"], first[form]["history"], strict=True):
            assert {k: pytest.approx(v, rel=1e-3, abs=1e-3) for k, v in report.items()} == other


def test_bfloat16_trains_and_keeps_float32_weights(latents: Path, random_domain: Path):
    config = small(steps=1, precision="bfloat16")
    exact, rough = (train(c, made_source(latents, random_domain, c), report_every=1) for c in (small(steps=1), config))
    assert all(t.dtype in (torch.float32, torch.int64) for t in rough.tensors().values())
    assert rough.history[0]["video_loss"] == pytest.approx(exact.history[0]["video_loss"], rel=0.1, abs=0.1)


def test_a_nan_stops_the_run_before_it_reaches_the_weights(latents: Path, random_domain: Path):
    config = small()
    source = made_source(latents, random_domain, config)
    state = made_state(source, config)
    with torch.no_grad():
        state.motion.combine.bias.fill_(math.nan)
    before = numbers(state)
    with pytest.raises(NonFiniteLoss, match="at step 0"):
        iterate(state, source, SINGLE)
    after = numbers(state)
    assert all(torch.equal(before[name].nan_to_num(), after[name].nan_to_num()) for name in before)


def test_a_checkpoints_size_is_known_without_making_one(latents: Path, random_domain: Path, tmp_path: Path):
    config = small(**CROSS)
    source = made_source(latents, random_domain, config)
    with torch.device("meta"):
        planned = {name: t.shape for name, t in MoCoState.build(config, source.space, device="meta").tensors().items()}
    state = checkpoint.load(checkpoint.save(made_state(source, config), tmp_path / "point"))
    assert planned == {name: t.shape for name, t in state.tensors().items()}


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ({"form": "papr"}, "form: 'papr' is unknown"),
        ({"mode": "cross"}, "mode: 'cross' is unknown"),
        ({"form": "paper"}, "mode: form 'paper' needs"),
        ({"matching_weight": 1.0}, "matching_weight: the critic of mode 'in-domain' has no embedding"),
        ({"contrastive_weight": 2}, "contrastive_weight: the critic of mode"),
        ({"video_weight": 0, "image_weight": 0}, "video_weight: no critic of frames is left"),
        ({"window": 1}, "window: must be a whole number of 2 or more"),
        ({"time_step": 0}, "time_step: must be a whole number of 1 or more"),
        ({"time_step": 3}, "time_step: 3 is odd"),
        ({"momentum": 1}, "momentum: must be below 1"),
        ({"temperature": 0}, "temperature: must be above 0"),
        ({"basis": 1}, "basis: must be true or false"),
        ({**PAPER, "components": 5}, "components: 5, but Eq. 2 needs as many as the memory's 6"),
        ({**CROSS, "image_widths": (4, 4, 4, 4, 4)}, "image_widths: 5 blocks halve 8 pixels to nothing"),
        ({"gap_weight": 1}, "gap_weight: no such field"),
    ],
)
def test_bad_values_name_their_field(overrides: dict, words: str):
    with pytest.raises(UserError) as caught:
        small(**overrides)
    assert str(caught.value).startswith(words)


def test_more_components_than_w_has_are_refused(latents: Path, random_domain: Path):
    with pytest.raises(UserError, match="components: 9, but W of this domain has 8"):
        made_source(latents, random_domain, small(components=9))


def test_a_record_comes_back_as_the_same_run():
    config = small(**PAPER)
    again = registry.read_config(config.to_json())
    assert again == config
    assert again.digest() == config.digest() != small().digest()
    assert config.to_json()["system"] == "mocogan-hd"


@pytest.mark.parametrize("form", FORMS)
def test_a_sweep_takes_it_as_any_run(form: str, latents: Path, random_domain: Path):
    """As a trial without Ray, its time foretold, its checkpoint's size known."""
    from svgan.training.reporter import NullReporter
    from sweeps.driver import disk_check, forecast
    from sweeps.storage.plan import Plan
    from sweeps.trial.training import TrialTraining, figures_so_far

    config = small(steps=2, **FORMS[form])
    made_source(latents, random_domain, config)
    told = {"study": "toy", "name": "toy-1", "recipe": "mocogan-hd", "metric": "latent_fd", "controls": 1, "trials": 1}
    told |= {"domain": str(random_domain), "latents": str(latents), "storage": "runs", "folder": "runs/toy-1"}
    told |= {"steps": 2, "workers": 1, "cpus_per_worker": 1, "gpus_per_worker": 0, "concurrency": 1, "seed": 0}
    told |= {"tracking": "sqlite:///mlflow.db", "experiment": "svgan", "model": "m", "clips": 0, "reports": 2}
    plan = Plan.from_json({"format": 1, **told, "precision": "float32", "rungs": [], "reduction": 2, "digests": []})
    training = TrialTraining.from_config(plan, config.to_json(), torch.device("cpu"))
    state = training.train(NullReporter())
    assert math.isfinite(figures_so_far(state.history)["latent_fd_best"])
    assert forecast.timed(plan, config, training.material, "cpu", budget=1e-6).step > 0
    whole, generator = disk_check.state_bytes(config, training.material)
    assert whole == sum(tensor.nbytes for tensor in state.tensors().values()) > generator > 0
