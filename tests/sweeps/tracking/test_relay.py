"""What workers on other nodes send to the head's MLflow (its way over Ray: tests/faults/test_cluster.py)."""

from types import SimpleNamespace

import pytest
from made_studies import make_plan

from svgan.errors import UserError
from sweeps.tracking import relay
from sweeps.tracking.client import Tracking
from sweeps.tracking.outbox import Entry


@pytest.mark.parametrize(
    ("tracking", "here_alone"),
    [
        ("http://127.0.0.1:5000", True),
        ("http://localhost:5000", True),
        ("http://[::1]:5000", True),
        ("sqlite:////a/mlflow.db", True),
        ("http://10.0.0.4:5000", False),
        ("https://mlflow.example.org", False),
        ("postgresql://me@host/mlflow", False),
    ],
)
def test_a_loopback_and_a_file_are_of_one_machine(tracking, here_alone):
    assert relay.of_one_machine(tracking) is here_alone


@pytest.fixture
def sender(tmp_path, database, monkeypatch):
    """A worker's end whose actor is an object of this process."""
    import shutil

    import ray

    shutil.copy(database, tmp_path / "mlflow.db")
    plan = make_plan(tmp_path, "relayed")
    made = relay.Relay(plan.to_json())

    def method(name):
        return SimpleNamespace(remote=lambda *arguments: getattr(made, name)(*arguments))

    monkeypatch.setattr(
        ray, "get_actor", lambda name: SimpleNamespace(**{each: method(each) for each in ("apply", "known", "forget")})
    )
    monkeypatch.setattr(ray.util, "list_named_actors", lambda: [f"{relay._name(plan)}@node"])
    monkeypatch.setattr(ray, "get", lambda answer, timeout: answer)
    return relay.RelayedSender(plan, 2), plan


def test_figures_and_files_arrive(sender, tmp_path):
    worker, plan = sender
    worker.apply(Entry("open", {"params": {"width": "8"}, "attempt": 1}))
    worker.apply(Entry("metrics", {"step": 10, "values": {"latent_fd": 0.5}, "model": None, "at": 1}))
    folder = tmp_path / "files" / "in"
    folder.mkdir(parents=True)
    (folder / "clip.bin").write_bytes(b"\0\1")
    worker.apply(Entry("artifacts", {"folder": None}, folder.parent))
    (run,) = Tracking(plan).runs()
    assert run.data.params["width"] == "8"
    assert run.data.metrics == {"latent_fd": 0.5}
    client = Tracking(plan).client
    assert (tmp_path / "mlartifacts").exists()
    assert [item.path for item in client.list_artifacts(run.info.run_id, "in")] == ["in/clip.bin"]


def test_a_new_start_knows_what_an_earlier_one_logged(sender):
    worker, plan = sender
    worker.apply(Entry("metrics", {"step": 10, "values": {"fvd_short": 3.0}, "model": None, "at": 1}))
    worker.relay.known.remote(2)
    assert relay.Relay(plan.to_json()).known(2) == {"fvd_short": 3.0}


def test_what_mlflow_refuses_comes_back_as_one_line(sender):
    worker, _ = sender
    with pytest.raises(UserError, match="MlflowException") as error:
        worker.apply(Entry("metrics", {"step": 1, "values": {"not/a=name?": 1.0}, "model": None, "at": 1}))
    assert "\n" not in str(error.value)
