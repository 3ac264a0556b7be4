"""With Ray's public interface alone a sweep is slower, and ends with the same figures: its faults are handled too."""

import pytest
from harness import DRIVER, FLAGS, WORKER, Sweep, assert_as_if_nothing_had_happened, figures, messages, trials
from optuna.trial import TrialState

from sweeps.storage.tested_versions import PUBLIC_ONLY
from sweeps.tracking.client import Tracking

pytestmark = pytest.mark.slow

PUBLIC = {PUBLIC_ONLY: "ray"}


def test_killed_processes_of_a_trial_change_no_figure(undisturbed, footage, tmp_path):
    sweep = Sweep(tmp_path, footage[0], "--name", "hurt", *FLAGS, environment=PUBLIC)
    sweep.until_reports(1)
    for title, attempt in ((WORKER, 2), (DRIVER, 3)):
        max(sweep.processes(title), key=lambda process: process.create_time()).kill()
        sweep.until(lambda attempt=attempt: f"workers started again ({attempt} times now)" in messages(sweep.plan))
    sweep.end()
    assert_as_if_nothing_had_happened(sweep.plan, undisturbed)
    assert [run.data.tags["attempts"] for run in Tracking(sweep.plan).runs()] == ["3"]
    log = (tmp_path / "runs" / "hurt" / "sweep.log").read_text()
    assert log.count("only the public interface of ray is used") == 1


def test_a_pruned_trial_makes_room_for_the_next(footage, tmp_path):
    """One place, so that a trial that was stopped and kept it would be the last one."""
    asked = ("--trials", "5", "--steps", "16", "--clips", "0", "--concurrency", "1")
    found = {}
    for name, environment in (("internal", {}), ("public", PUBLIC)):
        sweep = Sweep(tmp_path, footage[0], "--name", name, *asked, environment={"TOY_PACE": "0.1"} | environment)
        sweep.end()
        found[name] = [trial.state for trial in trials(sweep.plan)], [trial.params for trial in trials(sweep.plan)]
        assert len(figures(sweep.plan)) == 5
    assert found["public"] == found["internal"]
    assert TrialState.PRUNED in found["public"][0]
    assert set(found["public"][0]) <= {TrialState.PRUNED, TrialState.COMPLETE}
