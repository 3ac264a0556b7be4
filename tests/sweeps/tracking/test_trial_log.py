"""A trial's writes reach MLflow once, though it goes away and comes back: a real server, really stopped."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest
from at_once import run_at_once
from made_plan import PLAN
from ports import free_port, wait_until_answers

from sweeps.storage import events
from sweeps.storage.plan import Plan
from sweeps.tracking import trial_log
from sweeps.tracking.client import Tracking, models_of, sweep_models
from sweeps.tracking.outbox import Entry, Outbox, waiting
from sweeps.tracking.sender import Sender
from sweeps.tracking.trial_log import TrialLog, attempt, sync


@pytest.fixture(scope="module")
def address():
    return free_port()


class Server:
    """`mlflow server` on a SQLite file, started and stopped at will."""

    def __init__(self, folder, port):
        self.folder, self.port, self.process = folder, port, None

    def start(self):
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self.port)]
        where = ["--backend-store-uri", f"sqlite:///{self.folder}/server.db"]
        self.process = subprocess.Popen(
            [*command, *where, "--artifacts-destination", f"{self.folder}/artifacts", "--workers", "1"],
            env=os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        wait_until_answers(self.port, self.process)

    def stop(self):
        if self.process is not None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None


@pytest.fixture(scope="module")
def server(tmp_path_factory, address):
    made = Server(tmp_path_factory.mktemp("server"), address)
    made.start()
    yield made
    made.stop()


@pytest.fixture
def plan(tmp_path):
    places = {"storage": f"{tmp_path}/runs", "folder": f"{tmp_path}/runs/toy-1"}
    return Plan.from_fields(
        PLAN | places | {"name": f"s{os.urandom(4).hex()}", "tracking": f"sqlite:///{tmp_path}/mlflow.db"}
    )


@pytest.fixture
def served(plan, server, monkeypatch):
    """A plan whose MLflow is the server."""
    monkeypatch.setattr(trial_log, "RETRY_SECONDS", 0.0)
    return plan.with_fields(tracking=f"http://127.0.0.1:{server.port}")


@pytest.fixture
def generator(tmp_path):
    folder = tmp_path / "generator"
    folder.mkdir()
    (folder / "state.json").write_text("{}")
    return folder


def story(log, generator, steps):
    """What a trial writes at some reports."""
    for step in steps:
        log.model(step, generator, {"domain": "d"}, {"gap_weight": 1})
        log.metrics(step, {"latent_fd": 10.0 / step, "phi": 0.5}, step)
        sheet = generator.parent / "sheet.txt"
        sheet.write_text(f"step {step}")
        log.artifacts([sheet])


def assert_whole(plan, steps):
    """Every figure, model and file is in MLflow, once."""
    tracking = Tracking(plan)
    (run,) = tracking.runs()
    for key in ("latent_fd", "phi"):
        points = tracking.client.get_metric_history(run.info.run_id, key)
        assert [point.step for point in points] == steps
    models = sweep_models(tracking.client, tracking.experiment, plan.name)
    assert sorted(int(model.tags["svgan.step"]) for model in models) == steps
    for model in models:
        assert {metric.key for metric in model.metrics} == {"latent_fd", "phi"}
    assert [file.path for file in tracking.client.list_artifacts(run.info.run_id)] == ["sheet.txt"]
    return run


@pytest.mark.slow
def test_while_mlflow_is_away_writes_wait_and_then_go_out_once_in_order(served, server, generator):
    plan = served
    log = TrialLog(plan, 0)
    log.open({"gap_weight": 1.0}, attempt(plan, 0))
    story(log, generator, [1])
    server.stop()
    story(log, generator, [2, 3])
    assert waiting(plan) == {0: 6}
    server.start()
    story(log, generator, [4])
    log.close("finished")
    assert waiting(plan) == {}
    run = assert_whole(plan, [1, 2, 3, 4])
    assert (run.info.status, run.data.tags["attempts"], run.data.params) == ("FINISHED", "1", {"gap_weight": "1.0"})
    told = [event.text for event in events.read(plan).values()]
    assert len(told) == 2
    assert told[0].startswith("MLflow cannot be used, so its writes wait here")
    assert told[1] == "MLflow is back; 6 writes that waited were sent"


@pytest.mark.slow
def test_what_waits_when_all_have_gone_is_sent_by_sync(served, server, generator):
    plan = served
    Tracking(plan).parent()
    server.stop()
    log = TrialLog(plan, 0)
    log.open({"gap_weight": 2.0}, 1)
    story(log, generator, [1, 2])
    log.close("failed", "disk full")
    assert sync(plan) == (0, 8)
    server.start()
    assert sync(plan) == (8, 0)
    run = assert_whole(plan, [1, 2])
    assert (run.info.status, run.data.tags["error"]) == ("FAILED", "disk full")
    assert sync(plan) == (0, 0)


def test_an_entry_sent_twice_changes_nothing(plan, generator):
    log = TrialLog(plan, 0)
    story(log, generator, [1, 2])
    again = TrialLog(plan, 0)
    story(again, generator, [1, 2])
    assert_whole(plan, [1, 2])
    other = plan.with_fields(name=f"{plan.name}-b")
    story(TrialLog(other, 0), generator, [1])
    assert_whole(other, [1])
    assert_whole(plan, [1, 2])


def test_attempts_are_counted_by_the_storage(plan):
    assert [attempt(plan, 7), attempt(plan, 7), attempt(plan, 8)] == [1, 2, 1]


def test_looking_up_a_run_does_not_open_it_again(plan):
    log = TrialLog(plan, 0)
    log.open({"gap_weight": 1.0})
    log.close("failed", "disk full")
    (run,) = Tracking(plan).runs()
    assert TrialLog(plan, 0).link() == f"run {run.info.run_id} in MLflow"
    assert Tracking(plan).runs()[0].info.status == "FAILED"
    assert TrialLog(plan, 1).link() == ""


def fill(plan, generator, steps):
    """The outbox of a trial whose MLflow was away for its whole life, and a figure that an attempt logged again."""
    box = Outbox(plan, 0)
    for step in steps:
        box.put(Entry("model", {"step": step, "tags": {"domain": "d"}, "params": {}}, generator))
        for _ in range(2):
            figures = {"latent_fd": 10.0 / step, "phi": 0.5}
            box.put(Entry("metrics", {"step": step, "values": figures, "model": step, "at": time.time_ns() // 10**6}))
        sheet = generator.parent / "sheet"
        sheet.mkdir(exist_ok=True)
        (sheet / "sheet.txt").write_text(f"step {step}")
        box.put(Entry("artifacts", {"folder": None}, sheet))


def at_once(*calls):
    """The results of these calls, begun at the same moment by threads of their own."""
    start, results = threading.Barrier(len(calls)), [None] * len(calls)

    def run(place, call):
        start.wait()
        results[place] = call()

    threads = [threading.Thread(target=run, args=(place, call)) for place, call in enumerate(calls)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


@pytest.fixture(params=["disk", "memory"])
def place(plan, request):
    """A plan whose storage is a disk, or fsspec's memory."""
    return plan if request.param == "disk" else plan.with_fields(storage=f"memory://{plan.name}")


def test_two_that_flush_an_outbox_at_once_send_everything_once(place, generator):
    """`sync` beside a living driver, or a worker to whom MLflow is back beside the driver that closes its run."""
    Tracking(place).parent()
    fill(place, generator, [1, 2, 3])
    at_once(lambda: sync(place), lambda: sync(place))
    assert waiting(place) == {}
    assert_whole(place, [1, 2, 3])


def test_what_is_written_while_another_flushes_waits_behind_it(place, generator):
    """A driver that closes a run while its worker's writes are on their way must not overtake them."""
    fill(place, generator, [1, 2])
    other, driver = Outbox(place, 0), TrialLog(place, 0)
    with other.claim.taken() as own:
        assert own
        driver.close("finished")
        assert waiting(place) == {0: 9}
    assert sync(place) == (9, 0)
    assert assert_whole(place, [1, 2]).info.status == "FINISHED"


def test_a_flush_that_died_with_a_model_half_uploaded_is_completed(plan, generator):
    """Its model is PENDING; the next flush completes that one and makes no other."""
    fill(plan, generator, [1, 2])

    class Dies(Sender):
        def _model(self, files, step, tags, params):
            self.client.finalize_logged_model = lambda *asked: kill()
            super()._model(files, step, tags, params)

    def kill():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Outbox(plan, 0).send(lambda: Dies(plan, 0))
    assert sync(plan) == (8, 0)
    assert_whole(plan, [1, 2])
    tracking = Tracking(plan)
    assert len(models_of(tracking.client, tracking.experiment, plan.name)) == 2


def test_entries_go_out_in_the_order_of_writing_though_clocks_differ(plan, monkeypatch):
    """A worker whose clock is ahead opens the run; the driver that closes it later must come after it."""
    ahead = time.time_ns() + 10**12
    with monkeypatch.context() as skewed:
        skewed.setattr(time, "time_ns", lambda: ahead)
        Outbox(plan, 0).put(Entry("open", {"params": {}, "attempt": 1}))
    Outbox(plan, 0).put(Entry("close", {"outcome": "finished", "error": None}))
    assert sync(plan) == (2, 0)
    assert [run.info.status for run in Tracking(plan).runs()] == ["FINISHED"]


@pytest.mark.slow
@pytest.mark.parametrize("url", [False, True], ids=["disk", "s3"])
def test_two_processes_that_flush_an_outbox_at_once_send_everything_once(plan, generator, request, tmp_path, url):
    if url:
        plan = plan.with_fields(storage=f"{request.getfixturevalue('s3')}/{plan.name}")
    Tracking(plan).parent()
    fill(plan, generator, [1, 2, 3, 4])
    plan.save()
    prepare = (
        "from pathlib import Path; from sweeps.storage.plan import Plan; "
        "from sweeps.tracking.client import Tracking; from sweeps.tracking.trial_log import sync, waiting; "
        "plan = Plan.load(Path(sys.argv[1])); Tracking(plan).runs(); waiting(plan)"
    )
    for printed in run_at_once(prepare, "sync(plan)", plan.output.folder, count=2):
        assert printed.endswith(" 0)\n")
    assert_whole(plan, [1, 2, 3, 4])
