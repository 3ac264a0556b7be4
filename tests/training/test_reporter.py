"""What a user sees while training."""

import pytest

from svgan.reports.progress import Stages, bars, plain_console
from svgan.training import recipes
from svgan.training.reporter import ConsoleReporter, duration, figures


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0s"), (12.4, "12s"), (187, "3m 07s"), (7500, "2h 05m"), (59.9, "1m 00s")]
)
def test_durations(seconds: float, text: str):
    assert duration(seconds) == text


def test_figures():
    judged = {"step": 3, "phi": 0.71234, "critic_loss": -1234.5, "latent_fd": 0.3456, "iterations_per_second": 8.13}
    assert figures(judged) == "latent_fd 0.346  8.1 it/s"
    del judged["latent_fd"]
    assert figures(judged) == "critic_loss -1.23e+03  8.1 it/s"


def test_a_line_per_report(capsys: pytest.CaptureFixture[str]):
    class Stub:
        config = recipes.make("tiny", steps=100)

    with ConsoleReporter() as reporter:
        reporter.report(50, {"latent_fd": 0.5, "iterations_per_second": 5.0}, Stub())  # type: ignore[arg-type]
    assert "step 50/100  latent_fd 0.5  5 it/s  10s left\n" in capsys.readouterr().out


def test_off_a_terminal_stages_say_a_line_now_and_then(capsys: pytest.CaptureFixture[str], monkeypatch):
    clock = iter([0.0, 1.0, 6.0, 11.0, 12.0, 21.0])
    monkeypatch.setattr("svgan.reports.progress.time.monotonic", lambda: next(clock))
    stages = Stages(bars(plain_console()), every=10)
    for done in (10, 20, 30, 40):
        stages("training", done, 130)
    stages("crops", 7, 0)
    assert capsys.readouterr().out.splitlines() == ["training: 30 of 130, 50s left", "crops: 7"]
