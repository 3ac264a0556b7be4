"""`python -m sweeps`: each command against real MLflow and Optuna files, without Ray; bad input is one line."""

import argparse
import multiprocessing
import os
import time
from pathlib import Path

import made_studies as made
import numpy as np
import pandas
import pytest
from made_studies import refused, run_command
from PIL import Image

from svgan.io import storage
from sweeps import __main__ as commands
from sweeps.commands import COMMANDS
from sweeps.record.entries import Proposed, Reported
from sweeps.reports import trial_table
from sweeps.storage import driver_lock, stop_request, study_files, usage
from sweeps.tracking import outbox

OPTIONS = {
    "status": {"NAME"},
    "stop": {"NAME", "--no-wait"},
    "gc": {"NAME", "--dry-run", "--yes"},
    "export": {"NAME", "--out", "--history"},
    "compare": {"A", "B", "--sheet"},
    "reproduce": {"NAME:NUMBER", "--anyway"},
    "evaluate": {"MODEL", "--protocol", "--metrics", "--against", "--clips", "--log", "--report", "--workers"},
    "sync": {"NAME"},
    "check": {"NAME", "--repair"},
    "promote": {"NAME", "--model", "--promotion-clips", "--promotion-seeds", "--workers"},
    "domain": {"VIDEO", "--domain"},
    "embed": {"VIDEO", "--out", "--domain", "--components", "--frames"},
}


@pytest.fixture(scope="module")
def shared(tmp_path_factory, database):
    """A folder with a study of two trials, which tests only read."""
    folder = tmp_path_factory.mktemp("shared")
    made.study(folder, database, "study", ("finished", "pruned"))
    return folder


def test_the_commands_and_their_options_are_these():
    whole = commands.parser()
    chosen = next(action for action in whole._actions if isinstance(action, argparse._SubParsersAction))
    helps, shared = {"-h", "--help"}, {"--storage", "--tracking", "--experiment"}
    found = {}
    for name, own in chosen.choices.items():
        given = {option for action in own._actions for option in action.option_strings or [action.metavar]}
        assert helps <= given
        assert given & shared == (set() if name == "embed" else shared)
        found[name] = given - shared - helps
    assert found == OPTIONS


@pytest.mark.parametrize("name", OPTIONS)
def test_a_help_teaches_with_an_example(capsys, name):
    with pytest.raises(SystemExit) as stopped:
        commands.main([name, "--help"])
    assert stopped.value.code == 0
    assert f"python -m sweeps {name}" in capsys.readouterr().out.split("positional", 1)[0].split("\n\n", 1)[1]
    assert len(COMMANDS[name].ABOUT.splitlines()) > 3


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["status", "nothing"], "no study of that name"),
        (["promote", "nothing"], "no study of that name"),
        (["export", "nothing", "--out", "x.csv"], "no study of that name"),
        (["compare", "nothing", "study"], "no study of that name"),
        (["reproduce", "nothing:0"], "no study of that name"),
        (["evaluate", "nothing:0"], "no study of that name"),
        (["evaluate", "models:/nothing@champion"], "models:/nothing@champion: not in MLflow"),
        (["evaluate", "models:/nothing/1"], "not in MLflow"),
        (["evaluate", "models:/m-0123"], "not in MLflow"),
        (["stop", "nothing"], "no such study"),
        (["gc", "nothing"], "no such study"),
        (["sync", "nothing"], "no such study"),
        (["status", "--experiment", "empty"], "--experiment empty: not in sqlite"),
        (["status", "--tracking", "sqlite:///missing.db"], "no such file"),
        (["status", "--tracking", "foo://bar"], "--tracking foo://bar: MLflow keeps nothing there; give http://"),
        (["status", "study", "--tracking", "http://127.0.0.1:9"], "MLflow is not reachable"),
        (["export", "study"], "required: --out"),
        (["export", "study", "--out", "trials.xlsx"], "ends in .csv or .parquet"),
        (["compare", "study", "study:0"], "not one of each"),
        (["compare", "study:0", "study:9"], "study:9: study has trials 0, 1"),
        (["compare", "study:0", "study:x"], "study:x: give a trial as study:NUMBER"),
        (["compare", "study", "study", "--sheet", "both.gif"], "ends in .png"),
        (["compare", "study", "study", "--sheet", "both.png"], "study has no contact_sheet.png"),
        (["reproduce", "study"], "give a trial as study:NUMBER"),
        (["reproduce", "study:1"], "did not finish"),
        (["status", "study", "--no-such"], "--no-such"),
        (["nonsense"], "invalid choice: 'nonsense'"),
    ],
)
def test_bad_input_is_one_line_and_leaves_no_file(capsys, shared, monkeypatch, arguments, words):
    monkeypatch.chdir(shared)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    before = sorted(shared.rglob("*"))
    assert words in refused(capsys, *arguments)
    assert sorted(shared.rglob("*")) == before


def test_status_is_whole_in_80_columns_and_says_all_there_is_to_say(capsys, study, here, monkeypatch):
    made_study = study("a-study", "finished", "pruned", "failed", None, trials=6)
    made_study.tracking.client.set_tag(made_study.tracking.runs()[2].info.run_id, "error", "OSError: disk full")
    trace = here / "a-study" / "tune" / "trial-0002" / "error.txt"
    trace.parent.mkdir(parents=True)
    trace.write_text("Traceback")
    shown = run_command(capsys, "status", "a-study")
    lines = shown.splitlines()
    assert max(map(len, lines[: lines.index("")] if "" in lines else lines[:9])) <= 80
    heading = next(text for text in lines if "trial" in text and "steps" in text)
    assert heading.split() == ["trial", "GAP", "rung", "steps", "FD", "short", "long", "state"]
    assert "1/2" in shown
    assert "3 of 6 trials are over: 1 finished, 1 stopped, 1 failed, 1 cut, 2 not started" in shown
    assert "no driver runs it; go on with: python sweeps/toy.py --resume a-study --storage" in shown
    assert "trial 2 failed: OSError: disk full" in shown
    assert f"cat {trace}" in shown


def test_status_tells_the_hours_that_count_towards_the_budget(capsys, study):
    first = study("first", "finished", "finished", gpus_per_worker=1, max_gpu_hours=10.0)
    for number, run in enumerate(first.tracking.runs()):
        usage.Meter(first.plan, number).seconds_so_far()
        storage.write(study_files.place(first.plan, usage.FOLDER, f"{number:06d}", "1"), b"900")
        first.tracking.client.log_metric(run.info.run_id, "gpu_hours", 0.25)
    assert "used: 0.5 GPU-hours of 10 (--max-gpu-hours)" in run_command(capsys, "status", "first")
    row = next(line.split() for line in run_command(capsys, "status").splitlines() if line.startswith("first"))
    assert row[6] == "0.5"
    study("second", "finished")
    assert "used" not in run_command(capsys, "status", "second")


def test_status_of_a_living_study_tells_its_driver_and_the_time_left(capsys, study):
    plan = study("alive", "finished", None, trials=3).plan
    with driver_lock.hold(plan):
        shown = run_command(capsys, "status", "alive")
    assert "running" in shown
    assert "15s" in shown.split("running")[1].splitlines()[0]  # 30 of 40 steps at 2 a second
    assert "process " in shown
    assert "left" in shown.splitlines()[-1]


def test_status_without_mlflow_is_what_the_record_has(capsys, study, here):
    record = study("study", "finished", "pruned", "failed").record
    for number, weight in ((3, 2.5), (4, 7.5)):
        record.append(Proposed(number=number, params={"gap_weight": weight}))
        record.append(Reported(number=number, step=20, value=1.25))
    (here / "mlflow.db").rename(here / "away.db")
    said = run_command(capsys, "status", "study")
    cells = {line.split()[0]: line.split() for line in said.splitlines() if "/40" in line}
    assert [cells[number][-1] for number in "01234"] == ["finished", "stopped", "failed", "cut", "cut"]
    assert {"7.5", "20/40", "1.25"} <= set(cells["4"])
    assert "this is the study's record, for --tracking" in said
    assert not (here / "mlflow.db").exists()


def test_status_without_a_name_lists_the_studies(capsys, study):
    study("first", "finished", "failed")
    study("second", None)
    rows = {text.split()[0]: text.split() for text in run_command(capsys, "status").splitlines() if text}
    assert rows["first"][1:6] == ["running", "2", "1", "0", "1"]
    assert rows["second"][1:6] == ["running", "1", "0", "0", "0"]


def stopping_driver(plan):
    """A process that holds the study's lock until it is asked to stop, as a driver does."""
    with driver_lock.hold(plan):
        while not stop_request.requested(plan):
            time.sleep(0.05)


def test_stop_waits_for_the_driver_and_says_how_to_go_on(capsys, study):
    plan = study("alive", "finished", None).plan
    driver = multiprocessing.get_context("fork").Process(target=stopping_driver, args=(plan,), daemon=True)
    driver.start()
    while not driver_lock.is_held(plan):
        assert driver.is_alive()
        time.sleep(0.02)
    shown = run_command(capsys, "stop", "alive")
    assert not driver_lock.is_held(plan)
    driver.join(timeout=600)
    assert "python sweeps/toy.py --resume alive --storage" in shown
    assert driver.exitcode == 0


def test_stop_without_waiting_only_asks_and_a_study_that_is_dead_is_refused(capsys, study):
    plan = study("alive", None).plan
    assert "no driver runs it on this machine" in refused(capsys, "stop", "alive")
    assert not stop_request.requested(plan)
    with driver_lock.hold(plan):
        assert "asked to stop" in run_command(capsys, "stop", "alive", "--no-wait")
        assert stop_request.requested(plan)


def test_export_has_a_row_per_trial_and_reads_back(capsys, study, here):
    study("a-study", "finished", "pruned", "failed", None)
    for name, read in (("trials.csv", pandas.read_csv), ("deep/trials.parquet", pandas.read_parquet)):
        assert "4 rows" in run_command(capsys, "export", "a-study", "--out", name)
        frame = read(here / name)
        assert list(frame["number"]) == [0, 1, 2, 3]
        assert list(frame["status"]) == ["finished", "stopped", "failed", "cut"]
        assert list(frame["params.gap_weight"]) == [0.0, 10.0, 20.0, 30.0]
        assert frame["metrics.fvd_long"][0] == 50.0
        assert frame["metrics.fvd_long"][1:].isna().all()
        assert set(frame["tags.latents"]) == {"l1"}
        assert frame["error"][2] == "NonFiniteLoss: gp"
        assert set(frame["attempts"]) == {1}
        assert (frame["seconds"][:3] >= 0).all()
        assert list(frame.columns[:2]) == ["number", "status"]
    assert not list(here.rglob(".*.partial"))


def test_export_of_the_curves_is_long_and_in_order(capsys, study, here):
    study("a-study", "finished", "pruned")
    run_command(capsys, "export", "a-study", "--out", "curves.parquet", "--history")
    frame = pandas.read_parquet(here / "curves.parquet")
    assert list(frame.columns) == ["number", "metric", "step", "value", "time"]
    one = frame[(frame["number"] == 0) & (frame["metric"] == "latent_fd")]
    assert list(one["step"]) == [10, 20, 30, 40]
    assert list(one["value"]) == [2.1, 2.2, 2.3, 2.4]
    assert set(frame["number"]) == {0, 1}


def test_export_to_a_place_that_cannot_be_written_is_one_line(capsys, study, here):
    study("a-study", "finished")
    (here / "file").write_text("")
    assert "cannot be written" in refused(capsys, "export", "a-study", "--out", "file/trials.csv")


def test_compare_of_trials_tells_settings_digests_and_figures(capsys, study):
    study("one", "finished", "finished")
    study("two", "finished", digests=tuple((made.DIGESTS | {"protocol.long": "p2"}).items()))
    shown = run_command(capsys, "compare", "one:0", "one:1")
    assert "DO NOT COMPARE" not in shown
    lines = [text.split() for text in shown.splitlines()]
    assert lines[:4] == [["A:", "one:0"], ["B:", "one:1"], ["settings", "A", "B"], ["gap_weight", "0.0", "10.0"]]
    assert "digests: the same" in shown
    row = next(text.split() for text in shown.splitlines() if text.startswith("fvd_long"))
    assert row[1:] == ["50", "49", "-1", "-2.0"]
    shown = run_command(capsys, "compare", "one:0", "two:0")
    assert shown.splitlines()[2] == "THEIR FIGURES DO NOT COMPARE: protocol.long is p1 in A, p2 in B"


def test_compare_of_studies_tells_best_median_and_counts(capsys, study):
    study("one", "finished", "finished", "pruned")
    study("two", "finished", "failed", steps=80)
    shown = run_command(capsys, "compare", "one", "two")
    rows = {text.rsplit("  ", 4)[0].strip(): text for text in shown.splitlines()}
    assert any(text.split() == ["steps", "40", "80"] for text in rows.values())
    best = next(text for text in rows.values() if text.startswith("fvd_long, best"))
    assert best.split()[2:] == ["49", "50", "+1", "+2.0"]
    assert next(text for text in rows.values() if text.startswith("trials finished")).split()[2:4] == ["2", "1"]


def test_compare_puts_the_sheets_of_the_best_trials_into_one_picture(capsys, study, here):
    one, two = study("one", "finished", "finished"), study("two", "pruned")
    one.sheet(0, 10)
    one.sheet(1, 20)
    two.sheet(0, 30, height=26)
    run_command(capsys, "compare", "one", "two", "--sheet", "out/both.png")
    picture = np.asarray(Image.open(here / "out" / "both.png"))
    assert picture.shape == (26, 68, 3)
    assert (picture[:20, :30] == 20).all()
    assert (picture[:, 38:] == 30).all()


def test_sync_sends_what_waited_once_and_says_so(capsys, study):
    made_study = study("a-study", "finished", None)
    plan, client = made_study.plan, made_study.tracking.client
    assert "nothing waits" in run_command(capsys, "sync", "a-study")
    waiting = outbox.Outbox(plan, 1)
    waiting.put(outbox.Entry("metrics", {"step": 90, "values": {"phi": 0.5}, "model": None, "at": 1}))
    waiting.put(outbox.Entry("close", {"outcome": "pruned", "error": None}))
    assert "2 writes wait for MLflow" in run_command(capsys, "status", "a-study")
    assert "first: python -m sweeps sync" in refused(capsys, "gc", "a-study", "--yes")
    assert "2 writes sent, 0 left" in run_command(capsys, "sync", "a-study")
    run = made_study.tracking.runs()[1]
    assert run.info.status == "KILLED"
    assert [point.step for point in client.get_metric_history(run.info.run_id, "phi")] == [90]


def test_sync_says_what_is_left_while_mlflow_is_away(capsys, study):
    plan = study("a-study", None).plan
    outbox.Outbox(plan, 0).put(outbox.Entry("close", {"outcome": "pruned", "error": None}))
    with pytest.raises(SystemExit) as stopped:
        commands.main(["sync", "a-study", "--storage", ".", "--tracking", "http://127.0.0.1:9"])
    assert stopped.value.code == 1
    assert "0 writes sent, 1 left" in capsys.readouterr().out


def test_many_trials_are_the_best_and_those_that_go_on():
    rows = [
        trial_table.Row.from_run(number, {"steps": 40, "lr": number}, latent_fd=number / 10, status="stopped")
        for number in range(240)
    ]
    rows[200].status, rows[7].status = "running", "failed"
    shown = trial_table.render(rows, "many").visible()
    assert [row.number for row in shown] == [*range(20), 200]


def render(rows, width, rungs=()):
    from rich.console import Console

    console = Console(width=width, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(trial_table.render(rows, "a-study", rungs))
    return console.export_text().splitlines()


def test_as_many_parameters_as_have_room_and_the_others_are_named():
    names = ("gap_weight", "width", "critic", "lr", "batch", "n_critic", "trunk", "window")
    rows = [
        trial_table.Row.from_run(
            number,
            {**{name: number * 1000 + 0.5 for name in names}, "steps": 100_000, "critic": "multiscale", "seed": 0},
            step=50_000,
            latent_fd=0.123456,
            fvd_short=1234.5,
            fvd_long=1234.5,
            status="running",
            speed=1.0,
        )
        for number in range(3)
    ]
    narrow, wide = render(rows, 80, (10,)), render(rows, 120, (10,))
    assert max(map(len, narrow)) <= 80
    assert "…" not in "".join(narrow + wide)
    assert "13h 53m" in "".join(narrow)
    assert "no room for" in narrow[-1]
    assert "critic" not in "".join(narrow + wide).replace("n_critic", "")
    assert len(wide[-1].split(",")) < len(narrow[-1].split(","))


def test_a_line_says_how_fast_a_trial_runs_while_it_does():
    row = trial_table.Row.from_run(
        1, {"steps": 100, "gap_weight": 1}, step=50, latent_fd=0.5, status="running", speed=12.345
    )
    assert trial_table.line(row) == "trial 1 (GAP 1)  step 50/100  latent FD 0.5  12 it/s  running"
    row.status = "finished"
    assert trial_table.line(row) == "trial 1 (GAP 1)  step 50/100  latent FD 0.5  finished"


def test_time_left_counts_what_runs_and_what_has_not_started():
    over = trial_table.Row.from_run(0, {"steps": 100}, status="finished", seconds=60.0, speed=2.0)
    half = trial_table.Row.from_run(1, {"steps": 100}, step=50, status="running", speed=1.0)
    assert trial_table.time_left([], 4, 2) is None
    assert trial_table.time_left([over, half], 2, 2) == 50.0
    assert trial_table.time_left([over, half], 6, 2) == pytest.approx((50 + 4 * 60) / 2)


def test_values_from_mlflow_and_live_ones_look_alike():
    live = {"trunk": (64, 128), "lr": 1e-3, "components": None, "critic": "tconv", "width": 32}
    assert {key: trial_table.short(value) for key, value in live.items()} == {
        key: trial_table.short(str(value if key != "trunk" else [64, 128])) for key, value in live.items()
    }
    assert trial_table.short([64, 128]) == "64x128"


def test_a_plan_without_its_folder_is_found_in_mlflow(capsys, study, here):
    study("a-study", "finished")
    Path(here, "a-study", "study.json").unlink()
    shown = run_command(capsys, "status", "a-study")
    assert "not on this machine" in shown
    assert "finished" in shown


def test_a_base_name_is_the_newest_study_that_begins_so(study, here, capsys):
    for name in ("gap-20260101-000000", "gap-20260102-000000", "width-20260103-000000"):
        study(name, "finished")
    assert "gap-20260102-000000" in run_command(capsys, "status", "gap")
    assert "width-20260103-000000" in run_command(capsys, "status", "width", "--tracking", "sqlite:///mlflow.db")
    assert "20260102" in run_command(capsys, "status", "gap", "--tracking", "sqlite:///mlflow.db")
    commands.main(["status", "gap", "--storage", "."])
    assert capsys.readouterr().err == "gap: taking gap-20260102-000000, the newest study whose name begins so\n"
    assert "20260102-000000: no driver runs it" in refused(capsys, "stop", "gap-20260102-000000")
    study("gap")
    os.utime("gap/study.json", (0, 0))
    assert "20260102" not in run_command(capsys, "status", "gap"), "a whole name comes first"
    assert "no such study" in refused(capsys, "gc", "width", "--yes")
    assert "width-20260103-000000: nothing to delete" in run_command(capsys, "gc", "width")
