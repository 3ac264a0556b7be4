"""Each refusal of the preflight against the real thing: files, a full disk, another user, MLflow's own databases."""

import http.server
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from made_plan import PLAN
from toy import toy

from svgan.errors import UserError
from sweeps import study
from sweeps.driver import disk_check, preflight
from sweeps.driver.flags import Flags
from sweeps.driver.new_plan import fresh
from sweeps.storage.plan import Plan
from sweeps.storage.tested_versions import PUBLIC_ONLY, warn_once
from sweeps.tracking import database_check
from sweeps.tracking.client import one_at_a_time, open_experiment
from sweeps.tracking.mlflow_internals import migrations


def of_schema(database, tmp_path, revision):
    path = tmp_path / "mlflow.db"
    shutil.copy(database, path)
    with sqlite3.connect(path) as writing:
        writing.execute("update alembic_version set version_num = ?", (revision,))
    writing.close()
    return path


def older_revision():
    return next(iter(migrations().walk_revisions())).down_revision


def test_a_database_of_this_mlflow_or_none_yet_passes_and_stays_as_it_is(database, tmp_path):
    before = database.read_bytes()
    database_check.check_tracking(f"sqlite:///{database}", "svgan")
    database_check.check_tracking(f"sqlite:///{tmp_path}/new/mlflow.db", "svgan")
    assert database.read_bytes() == before
    assert list(tmp_path.iterdir()) == []


def test_an_older_or_newer_schema_is_refused_with_the_command(database, tmp_path):
    path = of_schema(database, tmp_path, older_revision())
    with pytest.raises(UserError, match=f"is older than this MLflow's .*mlflow db upgrade sqlite:///{path}$"):
        database_check.check_tracking(f"sqlite:///{path}", "svgan")
    path = of_schema(database, tmp_path, "f00dfacecafe")
    with pytest.raises(UserError, match=r"of a newer MLflow than .* \(schema f00dfacecafe\)"):
        database_check.check_tracking(f"sqlite:///{path}", "svgan")


def test_with_the_public_interface_alone_mlflow_itself_judges_the_schema(database, tmp_path, monkeypatch):
    uri = f"sqlite:///{of_schema(database, tmp_path, older_revision())}"
    monkeypatch.setenv(PUBLIC_ONLY, "mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)  # mlflow sets it and never resets it
    warn_once.cache_clear()
    with pytest.warns(RuntimeWarning, match="only the public interface of mlflow is used"):
        database_check.check_tracking(uri, "svgan")
    with pytest.raises(UserError, match=r"MLflow cannot be used \(Detected out-of-date database schema"):
        open_experiment(uri, "svgan")


def test_a_database_that_another_study_is_making_is_waited_for(database, tmp_path):
    path, made = of_schema(database, tmp_path, ""), threading.Event()
    with sqlite3.connect(path) as writing:
        writing.execute("delete from alembic_version")
    writing.close()

    def make():
        with one_at_a_time(f"sqlite:///{path}"):
            made.set()
            time.sleep(0.5)
            shutil.copy(database, path)

    maker = threading.Thread(target=make)
    maker.start()
    made.wait()
    database_check.check_tracking(f"sqlite:///{path}", "svgan")
    maker.join()


@pytest.mark.slow
def test_an_old_database_passes_after_the_command_that_is_named(tmp_path):
    """docs/traps.md: MLflow itself would migrate one that lacks a table, without asking."""
    import sqlalchemy
    from alembic import command
    from alembic.config import Config
    from mlflow.store.tracking.dbmodels.initial_models import Base

    uri = f"sqlite:///{tmp_path}/mlflow.db"
    engine = sqlalchemy.create_engine(uri)
    Base.metadata.create_all(engine)
    config = Config()
    config.set_main_option("script_location", migrations().dir)
    config.set_main_option("sqlalchemy.url", uri)
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, older_revision())
    engine.dispose()
    with pytest.raises(UserError, match="older") as refused:
        database_check.check_tracking(uri, "svgan")
    named = str(refused.value).rpartition(": ")[2].split()
    assert named[0] == "mlflow"
    subprocess.run([sys.executable, "-m", *named], check=True, capture_output=True, timeout=300)
    database_check.check_tracking(uri, "svgan")


def test_a_file_that_is_no_database_of_mlflow_is_refused(tmp_path):
    other = tmp_path / "other.db"
    with sqlite3.connect(other) as writing:
        writing.execute("create table mine (x)")
    writing.close()
    with pytest.raises(UserError, match="not of MLflow"):
        database_check.check_tracking(f"sqlite:///{other}", "svgan")
    other.write_text("plain words, long enough to be read as a header")
    with pytest.raises(UserError, match="cannot be read as SQLite"):
        database_check.check_tracking(f"sqlite:///{other}", "svgan")


@pytest.fixture
def wrong_server():
    """A web server that is not MLflow: an error to two experiments, a page to the others."""

    class Page(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response({"secret": 401, "busy": 503}.get(self.path.rpartition("=")[2], 200))
            self.end_headers()
            self.wfile.write(b"<html>hello</html>")

        def log_message(self, *arguments):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def test_a_server_that_is_away_another_one_or_closed_is_refused(wrong_server):
    with pytest.raises(UserError, match="MLflow is not reachable"):
        database_check.check_tracking("http://127.0.0.1:9", "svgan")
    for experiment, status in (("svgan", 200), ("busy", 503)):
        with pytest.raises(UserError, match=f"answers {status}, but not as MLflow does"):
            database_check.check_tracking(wrong_server, experiment)
    with pytest.raises(UserError, match=r"refused \(401\); set MLFLOW_TRACKING_USERNAME"):
        database_check.check_tracking(wrong_server, "secret")


def test_a_postgresql_that_is_away_is_one_line_without_its_password():
    with pytest.raises(UserError) as refused:
        database_check.check_tracking("postgresql://me:secret@127.0.0.1:9/mlflow", "svgan")
    assert "secret" not in str(refused.value)
    assert "\n" not in str(refused.value)


def test_storage_that_cannot_be_written_is_refused(tmp_path):
    preflight.check_storage(str(tmp_path / "new" / "runs"))
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"--storage .*file/runs: cannot be written"):
        preflight.check_storage(str(tmp_path / "file" / "runs"))


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user")
def test_a_folder_that_is_another_users_is_refused(tmp_path, database):
    """As a subprocess that has given up being root, to whom no folder is closed."""
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o755)
    for folder in (tmp_path, *tmp_path.parents):
        if folder.stat().st_uid == os.geteuid() and folder != Path("/"):
            folder.chmod(folder.stat().st_mode | 0o055)
    script = (
        "import os, sys, tempfile\n"
        "from svgan.errors import UserError\n"
        "from sweeps.driver import preflight\nfrom sweeps.tracking import database_check\n"
        "def checks(folder):\n"
        "    for check, place in ((preflight.check_storage, folder),\n"
        "                         (lambda uri: database_check.check_tracking(uri, 'x'), f'sqlite:///{folder}/mlflow.db')):\n"
        "        try:\n            check(place)\n        except UserError as error:\n            print(error)\n"
        "with tempfile.TemporaryDirectory() as open_to_all:\n"
        "    checks(open_to_all)\n"  # so that everything is imported: the interpreter may be root's alone
        "os.setgid(65534); os.setuid(65534)\n"
        "checks(sys.argv[1])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(closed)],
        capture_output=True,
        text=True,
        timeout=120,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert len(done.stdout.splitlines()) == 2, done.stdout + done.stderr
    assert f"--storage {closed}: cannot be written (PermissionError" in done.stdout, done.stderr
    assert f"{closed} cannot be written; choose another" in done.stdout
    assert list(closed.iterdir()) == []


@pytest.fixture
def small_disk(tmp_path):
    """A file system of two megabytes."""
    if os.geteuid() != 0:
        pytest.skip("mounting needs root")
    folder = tmp_path / "small"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "svgan-test", str(folder)], check=False).returncode:
        pytest.skip("this root may not mount")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_disk_too_small_for_the_checkpoints_is_refused(small_disk, footage, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    asked = toy(footage[0], clips=0)
    with pytest.raises(UserError, match=rf"disk: {small_disk} has .* MB free, the study may keep .* 400 trials"):
        study.run(asked, ["--storage", str(small_disk), "--trials", "400"])
    assert list(small_disk.iterdir()) == []
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and small_disk not in path.parents]


@pytest.mark.parametrize("change", [{}, {"space": "wplus"}, {"critic": "multiscale"}, {"critic": "holistic"}])
def test_the_size_of_a_checkpoint_is_known_before_there_is_one(change, footage, tmp_path):
    from safetensors.torch import load_file

    from svgan.training import checkpoint, recipes, registry
    from svgan.training.data import Material
    from sweeps.trial.artifacts import export_generator

    material, run = Material.open(*footage), recipes.make("tiny", **change)
    state = registry.build_state(run, registry.get(run.system).space(run, material), {})
    checkpoint.save(state, tmp_path / "state")
    export_generator(tmp_path / "state", tmp_path / "generator")
    held = [
        sum(tensor.nbytes for tensor in load_file(tmp_path / name / checkpoint.TENSORS).values())
        for name in ("state", "generator")
    ]
    assert list(disk_check.state_bytes(run, material)) == held


def test_a_resumed_study_counts_its_own_files_as_room(small_disk):
    plan = Plan.from_fields(
        PLAN
        | {"storage": str(small_disk), "folder": str(small_disk / "toy-1"), "tracking": "http://there", "trials": 7}
    )
    with pytest.raises(UserError, match="disk:"):
        disk_check.check_disk(plan, 150_000, 1000)
    kept = small_disk / "toy-1" / "train-0000"
    kept.mkdir(parents=True)
    (kept / "checkpoint").write_bytes(bytes(1_000_000))
    free = shutil.disk_usage(small_disk).free
    assert disk_check.check_disk(plan.with_fields(trials=6), 100_000, 1000) > free


def test_the_whole_preflight_takes_less_than_three_seconds(footage, tmp_path, monkeypatch):
    """Ours is to know, not to time a busy machine: seconds of CPU are counted, not of the clock."""
    monkeypatch.chdir(tmp_path)
    asked = toy(footage[0], clips=0)
    plan = fresh(asked, Flags.parse(asked, []))
    preflight.preflight(asked, plan)
    began = time.process_time()
    cleared = preflight.preflight(asked, plan)
    assert time.process_time() - began < 3
    assert cleared.disk > 0
    assert [run.gap_weight for run in cleared.runs[:2]] == [0.0, 100.0]


def test_a_study_that_is_alive_is_not_resumed_beside_it(footage, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    asked = toy(footage[0], clips=0)
    plan = fresh(asked, Flags.parse(asked, ["--name", "alive"]))
    plan.save()
    other = (
        "import fcntl, pathlib, sys\nfile = pathlib.Path(sys.argv[1]).open('w')\n"
        "fcntl.flock(file, fcntl.LOCK_EX)\nprint('held', flush=True)\nsys.stdin.read()"
    )
    command = [sys.executable, "-c", other, str(tmp_path / "runs" / "alive" / "lock")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as driver:
        assert driver.stdout is not None
        assert driver.stdout.readline() == "held\n"
        with pytest.raises(UserError, match="is running this study; stop it with: python -m sweeps stop alive"):
            study.run(asked, ["--resume", "alive"])
        driver.communicate("")
