"""What a user sees while training."""

import pytest

from svgan import recipes
from svgan.report import ConsoleReporter, duration, figures


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0s"), (12.4, "12s"), (187, "3m 07s"), (7500, "2h 05m"), (59.9, "1m 00s")]
)
def test_durations(seconds: float, text: str):
    assert duration(seconds) == text


def test_figures():
    assert figures({"step": 3, "phi": 0.71234, "critic_loss": -1234.5}) == "phi 0.7123  critic_loss -1234"


def test_a_line_per_report(capsys: pytest.CaptureFixture[str]):
    class Stub:
        config = recipes.tiny(steps=100)

    with ConsoleReporter() as reporter:
        reporter.report(50, {"phi": 0.5, "iterations_per_second": 5.0}, Stub())  # type: ignore[arg-type]
    assert "step 50/100  phi 0.5  iterations_per_second 5  10s left" in capsys.readouterr().out
