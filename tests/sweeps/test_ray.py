"""Real Ray, MLflow and Optuna: a small sweep from end to end, one whose trials fail, and leaked resources."""

import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import optuna
import pytest
from made_plan import PLAN
from optuna.trial import TrialState
from toy import toy

from svgan.errors import UserError
from svgan.images.domain import Domain
from sweeps import study
from sweeps.driver import stall_limit
from sweeps.driver.life_watch import LifeWatch
from sweeps.parallel import feature_pool
from sweeps.promotion import registry
from sweeps.ray_runtime import placement_groups, resources
from sweeps.storage import life
from sweeps.storage.plan import Plan
from sweeps.tracking.client import Tracking, sweep_models


@pytest.fixture(scope="module")
def ray_here():
    """One local Ray for this module; every sweep here joins it, as it would join a cluster."""
    import ray

    from sweeps.ray_runtime import log_capture

    log_capture.settings()
    ray.init(
        address="local",
        num_cpus=2,
        num_gpus=0,
        resources={stall_limit.SLOT: 2},
        object_store_memory=128 * 2**20,
        include_dashboard=False,
        log_to_driver=False,
        configure_logging=False,
    )
    yield ray
    ray.shutdown()


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A working folder for the sweeps of this module; the test's own folder is restored."""
    folder, before = tmp_path_factory.mktemp("work"), os.getcwd()
    os.environ.pop("MLFLOW_TRACKING_URI", None)
    os.chdir(folder)
    yield folder
    os.chdir(before)


@pytest.fixture(scope="module")
def swept(ray_here, place, footage):
    """The end-to-end sweep: three trials of 16 steps, FVD on 2 clips, promotion."""
    promotion = study.run(toy(footage[0]), ["--name", "whole"])
    plan = Plan.load(place / "runs" / "whole")
    return promotion, plan, Tracking(plan)


def optuna_trials(plan):
    return optuna.load_study(study_name=plan.name, storage=f"sqlite:///{plan.output.folder}/optuna.db").get_trials()


def test_optuna_and_mlflow_tell_the_same_story(swept):
    _, plan, tracking = swept
    runs, trials = tracking.runs(), optuna_trials(plan)
    assert [int(run.data.tags["svgan.trial"]) for run in runs] == [trial.number for trial in trials] == [0, 1, 2]
    outcome = {"finished": TrialState.COMPLETE, "pruned": TrialState.PRUNED, "failed": TrialState.FAIL}
    assert [outcome[run.data.tags["svgan.outcome"]] for run in runs] == [trial.state for trial in trials]
    for run, trial in zip(runs, trials, strict=True):
        assert float(run.data.params["gap_weight"]) == trial.params["gap_weight"]
        points = tracking.client.get_metric_history(run.info.run_id, "latent_fd_best")
        steps = [point.step for point in points]
        assert len(steps) == len(set(steps))
        logged = {point.step: point.value for point in points}
        assert trial.intermediate_values.items() <= logged.items()
    assert tracking.client.get_run(tracking.parent_id()).info.status == "FINISHED"


def test_controls_finish_and_are_scored_under_a_named_protocol(swept):
    _, plan, tracking = swept
    for run in tracking.runs()[:2]:
        assert run.info.status == "FINISHED"
        assert run.data.metrics["fvd_long"] > 0
        assert run.data.metrics["fvd_short"] > 0
        assert run.data.tags["protocol.long"] == plan.tags["protocol.long"]
        assert run.data.tags["package"]
        assert run.data.metrics["steps_done"] == 16
    for run in tracking.runs():
        assert ("fvd_long" in run.data.metrics) == (run.data.tags["svgan.outcome"] == "finished")


def test_a_finished_trial_shows_a_clip_and_a_contact_sheet(swept):
    _, _, tracking = swept
    shown = {file.path: file.file_size for file in tracking.client.list_artifacts(tracking.runs()[0].info.run_id)}
    assert {"clip.mp4", "clip.gif", "contact_sheet.png"} <= set(shown)
    assert all(size > 500 for size in shown.values())
    plots = {file.path for file in tracking.client.list_artifacts(tracking.parent_id(), "plots")}
    assert {"plots/history.png", "plots/latent_fd_against_gap_weight.png"} <= plots


def test_the_champion_is_a_logged_checkpoint_and_was_clipped(swept):
    promotion, plan, tracking = swept
    models = sweep_models(tracking.client, tracking.experiment, plan.name)
    scored = [registry.figure(model, "fvd_long") for model in models]
    assert promotion.version == "1"
    assert promotion.fvd_long == min(value for value in scored if value is not None)
    assert (Path(plan.output.folder) / "champion.mp4").stat().st_size > 1000
    assert (Path(plan.output.folder) / "champion.png").exists()


def test_a_trial_that_ray_ran_is_reproduced_without_ray_in_every_bit(swept):
    done = subprocess.run([sys.executable, "-m", "sweeps", "reproduce", "whole:1"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "figures are equal in every bit" in done.stdout
    assert "fvd_long" in done.stdout


def test_ray_keeps_each_trial_under_its_fixed_name(swept):
    _, plan, _ = swept
    for number in range(2):
        kept = Path(plan.output.storage, plan.trial_name(number))
        assert (kept / "checkpoint_manager_snapshot.json").exists()
        assert len(list(kept.glob("checkpoint_2*"))) <= 2


def test_resuming_a_finished_study_changes_nothing(swept, footage):
    promotion, _, tracking = swept
    before = [(run.info.run_id, run.data.metrics) for run in tracking.runs()]
    again = study.run(toy(footage[0]), ["--resume", "whole"])
    assert again.version is None
    assert "already" in again.message
    assert again.step == promotion.step
    assert [(run.info.run_id, run.data.metrics) for run in tracking.runs()] == before


def test_noise_goes_to_the_log_and_a_name_is_not_taken_twice(swept, footage):
    _, plan, _ = swept
    assert "ray.tune" in Path(plan.output.folder, "sweep.log").read_text()
    assert not plan.scratch.exists()
    with pytest.raises(UserError, match="--resume whole"):
        study.run(toy(footage[0]), ["--name", "whole"])


def test_a_sweep_of_failures_ends_with_the_reason_and_tells_it_everywhere(ray_here, place, footage):
    def failing_loop(config):
        """Stands for a training loop whose loss goes NaN: what worker.train_loop returns then."""
        return {"failed": f"NonFiniteLoss: critic loss is nan at step {config['number']}"}

    with pytest.raises(UserError, match="first 3 trials all failed; the first one said: NonFiniteLoss"):
        study.run(toy(footage[0], trials=9, clips=0), ["--name", "failing"], loop=failing_loop)
    plan = Plan.load(place / "runs" / "failing")
    tracking = Tracking(plan)
    failed = [trial.number for trial in optuna_trials(plan) if trial.state == TrialState.FAIL]
    assert 3 <= len(failed) <= 4
    for number in failed:
        run = tracking.runs()[number]
        assert run.info.status == "FAILED"
        assert run.data.tags["error"] == f"NonFiniteLoss: critic loss is nan at step {number}"
    assert tracking.client.get_run(tracking.parent_id()).info.status == "FAILED"


def test_a_crash_is_retried_and_then_named(ray_here, footage, place):
    def raising_loop(config):
        raise RuntimeError(f"a crash of trial {config['number']}")

    with pytest.raises(UserError, match="no trial finished; the first failure said: RuntimeError: a crash of trial 0"):
        study.run(toy(footage[0], trials=2, clips=0), ["--name", "crashing"], loop=raising_loop)


def test_a_cluster_that_is_too_small_refuses(ray_here, place, footage, capsys):
    with pytest.raises(UserError, match="the cluster has 2"):
        study.run(toy(footage[0], clips=0), ["--workers", "8"])


def test_the_reaper_removes_what_leaked_and_nothing_else(ray_here):
    """docs/traps.md: a killed Train controller leaves its placement group behind."""
    ray = ray_here

    @ray.remote(num_cpus=0)
    class Controller:
        def start(self):
            self.group = ray.util.placement_group([{"CPU": 0.5}])
            ray.get(self.group.ready())
            return self.group.id.hex()

    dead, living = Controller.remote(), Controller.remote()
    leaked, kept = ray.get([dead.start.remote(), living.start.remote()])
    slot = ray.util.placement_group([{stall_limit.SLOT: 1}])
    ray.get(slot.ready())
    reaper = placement_groups.LeakedGroupRemover()
    reaper.look()
    assert not {leaked, kept, slot.id.hex()} & set(reaper.removed)
    reaper.removed.clear()
    ray.kill(dead)
    deadline = time.monotonic() + 300
    while not reaper.removed and time.monotonic() < deadline:
        time.sleep(0.1)
        reaper.look()
    assert reaper.removed == [leaked]
    states = {name: group["state"] for name, group in ray.util.placement_group_table().items()}
    assert [states[name] for name in (leaked, kept, slot.id.hex())] == ["REMOVED", "CREATED", "CREATED"]
    ray.util.remove_placement_group(slot)
    ray.kill(living)
    placement_groups.remove_group(kept)


def test_what_is_waited_for_is_said(ray_here):
    assert stall_limit.waiting_for([]).startswith("no trial is out; free: ")


def test_an_evaluation_for_which_no_place_comes_says_so_and_ends(ray_here, footage, monkeypatch, capsys):
    ray, pool = ray_here, feature_pool.FeaturePool(Domain.load(footage[0]), workers=1, cpus=1, gpus=0)
    monkeypatch.setattr(feature_pool, "SAY_SECONDS", 0.1)
    monkeypatch.setattr(resources, "NODE_SECONDS", 0.3)
    taken = ray.util.placement_group([{"CPU": 2}])
    ray.get(taken.ready(), timeout=120)
    waiting = ray.remote(num_cpus=1)(lambda: None).remote()
    try:
        with pytest.raises(UserError, match=r"^no features came for 0 h \(0 CPUs are free\); see Ray's logs$"):
            pool._next([waiting])
    finally:
        ray.util.remove_placement_group(taken)
    assert capsys.readouterr().out == "still waiting for the features of 8 clips: 0 CPUs are free\n"
    monkeypatch.undo()
    assert pool._next([waiting]) == waiting


@pytest.fixture
def watched(ray_here, tmp_path):
    """The limit on silence with --patience of a minute, its clock, and trial 3's signs of life on a disk."""
    plan = Plan.from_fields(PLAN | {"storage": str(tmp_path), "patience": 1.0})
    clock, signs = SimpleNamespace(now=0.0), LifeWatch(plan)
    signs.running.add(3)

    def limit(local):
        return stall_limit.StallLimit(plan, signs, local, clock=lambda: clock.now)

    def looks(stall, seconds, sign=None):
        if sign:
            life.leave(plan, 3, sign)
        for _ in range(seconds):
            clock.now += 1
            signs.look()
            stall.on_step_end(0, [])

    return limit, looks


def test_a_study_in_which_nothing_moves_ends_with_what_was_seen_last(watched, capsys):
    limit, looks = watched
    stall = limit(local=True)
    looks(stall, 239, life.Sign("a", 1, "generated clips", 12, 64))
    assert "still waiting after 1m 01s: no trial is out" in capsys.readouterr().out
    with pytest.raises(
        UserError,
        match=r"nothing moved for 4m 01s, so ended: no trial is out; free: .* of 2 CPU.*; "
        r"trial 3 at last: generated clips 12 of 64; use --resume",
    ):
        looks(stall, 10)


def test_signs_of_life_are_movements_however_far_apart_the_reports(watched):
    limit, looks = watched
    stall = limit(local=True)
    for done in range(64):
        looks(stall, 230, life.Sign("a", done, "generated clips", done, 64))


def test_a_wait_for_a_node_has_a_limit_of_its_own_and_only_on_a_cluster(watched):
    limit, looks = watched
    waits = life.Sign("controller", 0, "waits for a node: 1 x 1 CPU asked", waits=True)
    looks(limit(local=False), 1000, waits)
    with pytest.raises(UserError, match=r"nothing moved for 4m 01s.*waits for a node"):
        looks(limit(local=True), 1000, waits)


def test_a_driver_that_was_stopped_for_a_while_does_not_count_what_it_did_not_watch(watched):
    limit, looks = watched
    stall = limit(local=True)
    for _ in range(20):
        stall.looked -= 100_000
        looks(stall, 1)


@pytest.mark.slow
def test_two_workers_train_as_one(swept, footage):
    """Half the batch on each of two gloo workers gives the single worker's figures."""
    study.run(toy(footage[0], trials=2, clips=0), ["--name", "pair", "--workers", "2", "--concurrency", "1"])
    _, plan, one = swept
    two = Tracking(plan.with_fields(name="pair"))
    for alone, shared in zip(one.runs()[:2], two.runs(), strict=True):
        for figure in ("latent_fd", "critic_loss", "gradient_penalty"):
            if figure in alone.data.metrics:
                assert shared.data.metrics[figure] == pytest.approx(alone.data.metrics[figure], rel=1e-3)
        assert shared.info.status == "FINISHED"


def test_trials_that_end_right_after_a_report_do_not_hang(ray_here, place, footage, capsys):
    """Three reports without a pause and the end at once, some trials long (docs/traps.md)."""

    def hasty_loop(config):
        import ray.train

        for step in range(1, 4):
            ray.train.report({"step": step, "latent_fd": 1.0 / step, "latent_fd_best": 1.0 / step})
        return {"step": 3, "latent_fd": 1 / 3, "latent_fd_best": 1 / 3, "finished": True}

    study.run(toy(footage[0], trials=4, clips=0, rungs=()), ["--name", "hasty"], loop=hasty_loop)
    told = [line.split(" ", 1)[1] for line in capsys.readouterr().out.splitlines() if line[9:15] == "trial "]
    assert sum("finished" in line for line in told) == 4
    assert len(told) == len(set(told))
    trials = optuna_trials(Plan.load(place / "runs" / "hasty"))
    assert [trial.state for trial in trials] == [TrialState.COMPLETE] * 4
    assert all(trial.intermediate_values == {1: 1.0, 2: 0.5, 3: 1 / 3} for trial in trials)
