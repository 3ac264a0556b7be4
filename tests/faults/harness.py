"""A sweep as a process of its own, to be hurt: what this room's tests do things to, and what they read afterwards."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import optuna
import psutil
from mlflow.entities import Run
from optuna.trial import TrialState

from sweeps.storage import events
from sweeps.storage.plan import Plan
from sweeps.tracking.client import Tracking

TOY = Path(__file__).parents[1] / "sweeps" / "toy.py"
STEPS, EVERY = 160, 20
# A trial whose figures depend on nothing but its configuration: no search, no stops, no FVD.
SMALL = ("width=8", "batch=8", "n_critic=1", "components=16")
FLAGS = ("--steps", str(STEPS), "--clips", "0", "--grid", "gap_weight=100", *SMALL)
# Clocks, which tell of the machine and not of the model.
CLOCKS = {"iterations_per_second", "seconds_scoring", "core_hours"}
# What a test's own use of MLflow leaves in the environment.
LEFT_BEHIND = {"MLFLOW_TRACKING_URI"}
# Titles that Ray gives its processes; Train's controller is in the trial's driver.
WORKER, DRIVER = "ray::RayTrainWorker", "ray::ImplicitFunc"


class Sweep:
    """`python toy.py ...` in a folder and a session of its own, with its output in a file.

    database: an empty one that MLflow has migrated, which takes seconds; each folder begins with a copy.
    holds_at: the step at which its worker waits for `release`. So it still runs when it is hurt, on any machine.
    """

    database: Path

    def __init__(
        self,
        folder: Path,
        domain: str,
        *arguments: str,
        environment: dict[str, str] | None = None,
        holds_at: int | None = None,
    ) -> None:
        self.folder = folder
        self.hold = folder / f"hold-{time.monotonic_ns()}"
        self.environment = (
            {name: value for name, value in os.environ.items() if name not in LEFT_BEHIND}
            | {
                "RAY_ADDRESS": "local",
                "TOY_DOMAIN": domain,
                "TOY_PACE": "0.03",
                "PYTHONPATH": os.pathsep.join(sys.path),
            }
            | ({} if holds_at is None else {"TOY_HOLDS_AT": str(holds_at), "TOY_HOLD": str(self.hold)})
            | (environment or {})
        )
        self.name = arguments[arguments.index("--name" if "--name" in arguments else "--resume") + 1]
        self.log = folder / f"{self.name}-{time.monotonic_ns()}.out"
        if not (folder / "mlflow.db").exists():
            shutil.copy(self.database, folder / "mlflow.db")
        with self.log.open("w") as out:
            self.process = subprocess.Popen(
                [sys.executable, str(TOY), *arguments],
                env=self.environment,
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def plan(self) -> Plan:
        return Plan.load(self.folder / "runs" / self.name)

    def study_run(self) -> Run:
        """The study's own run in MLflow."""
        tracking = Tracking(self.plan)
        return tracking.client.get_run(tracking.parent_id())

    def output(self) -> str:
        return self.log.read_text()

    def until(self, what, timeout: float = 600.0) -> None:
        """Wait for `what()`; a sweep that has ended instead is an error that shows its output."""
        deadline = time.monotonic() + timeout
        while not what():
            if self.process.poll() is not None:
                raise AssertionError(f"the sweep has ended ({self.process.returncode}):\n{self.output()}")
            if time.monotonic() > deadline:
                raise AssertionError(f"not within {timeout:.0f} s:\n{self.output()}")
            time.sleep(0.1)

    def until_reports(self, count: int) -> None:
        self.until_told("latent FD", count)

    def until_told(self, text: str, count: int = 1, timeout: float = 600.0) -> None:
        self.until(lambda: self.output().count(text) >= count, timeout)

    def until_held(self) -> None:
        self.until(self.hold.with_suffix(".held").exists)

    def release(self) -> None:
        """Let the worker that is held go on, and every later one pass."""
        self.hold.with_suffix(".released").touch()

    def processes(self, title: str) -> list[psutil.Process]:
        """Ray's processes of this title below the driver."""
        return named(psutil.Process(self.process.pid).children(recursive=True), title)

    def interrupt(self) -> None:
        """Ctrl-C in the terminal: SIGINT for the whole foreground group."""
        os.killpg(self.process.pid, signal.SIGINT)

    def terminate(self) -> None:
        """SIGTERM for every process of the job, as SLURM and systemd send it."""
        driver = psutil.Process(self.process.pid)
        for process in [driver, *driver.children(recursive=True)]:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.terminate()

    def kill(self) -> None:
        """The power cut: driver, Ray and workers at once."""
        below = psutil.Process(self.process.pid).children(recursive=True)
        os.killpg(self.process.pid, signal.SIGKILL)
        for process in below:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self.process.wait()

    def end(self, code: int | None = 0, timeout: float = 900.0) -> str:
        """Wait for the end; returns the output. code: the exit code expected."""
        try:
            self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"no end within {timeout:.0f} s:\n{self.output()}") from None
        assert code is None or self.process.returncode == code, f"{self.process.returncode}:\n{self.output()}"
        return self.output()


def named(processes: list[psutil.Process], title: str) -> list[psutil.Process]:
    found = []
    for process in processes:
        try:
            if " ".join(process.cmdline()).startswith(title):
                found.append(process)
        except (psutil.NoSuchProcess, psutil.ZombieProcess):
            pass
    return found


def trials(plan: Plan) -> list[optuna.trial.FrozenTrial]:
    return optuna.load_study(study_name=plan.name, storage=f"sqlite:///{plan.output.folder}/optuna.db").get_trials()


def figures(plan: Plan) -> dict[int, dict[tuple[str, int], float]]:
    """Every figure of every trial in MLflow by (name, step); a step that is there twice is an error."""
    tracking, found = Tracking(plan), {}
    for run in tracking.runs():
        points = [
            point
            for key in run.data.metrics
            if key not in CLOCKS
            for point in tracking.client.get_metric_history(run.info.run_id, key)
        ]
        number = int(run.data.tags["svgan.trial"])
        assert number not in found, f"trial {number} has two runs"
        found[number] = {(point.key, point.step): point.value for point in points}
        assert len(found[number]) == len(points), f"trial {number} has a step twice"
    return found


def messages(plan: Plan) -> str:
    return "\n".join(event.text for event in events.read(plan).values())


def assert_as_if_nothing_had_happened(plan: Plan, undisturbed: dict[int, dict[tuple[str, int], float]]) -> None:
    """The same trials with the same figures to the last bit, told to Optuna and MLflow as what they are, once."""
    assert figures(plan) == undisturbed
    assert [trial.state for trial in trials(plan)] == [TrialState.COMPLETE] * len(undisturbed)
    tracking = Tracking(plan)
    runs = tracking.runs()
    assert [run.info.status for run in runs] == ["FINISHED"] * len(undisturbed)
    assert [run.data.tags["svgan.outcome"] for run in runs] == ["finished"] * len(undisturbed)
    assert tracking.client.get_run(tracking.parent_id()).info.status == "FINISHED"
    for run, trial in zip(runs, trials(plan), strict=True):
        steps = [point.step for point in tracking.client.get_metric_history(run.info.run_id, "latent_fd")]
        assert steps == list(range(EVERY, STEPS + 1, EVERY))
        assert sorted(trial.intermediate_values) == steps
        assert trial.value == run.data.metrics["latent_fd_best"] == min(trial.intermediate_values.values())
