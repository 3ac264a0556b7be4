"""The table of variants: what is in it, for whom it says so, and that it is Markdown."""

import io
from types import SimpleNamespace

import pytest
from made_plan import PLAN
from rich.console import Console

from sweeps.reports import trial_table as table
from sweeps.reports import variant_table
from sweeps.storage.plan import Plan


def run(variant, steps, outcome="finished", **metrics):
    params = {"steps": str(steps)} | ({"variant": variant} if variant else {})
    return SimpleNamespace(data=SimpleNamespace(params=params, metrics=metrics, tags={"svgan.outcome": outcome}))


PLANNED = Plan.from_fields(PLAN | {"trials": 2, "seconds": 150.0, "seeds": 3, "clips": 64})
SPREAD = {"fvd_long": 30.0, "fvd_long_low": 28.5, "fvd_long_high": 31.5}
RUNS = [
    run("one", 1600, core_hours=0.2, seconds_scoring=270.0, acd=0.21, **SPREAD),
    run("two", 16, core_hours=0.15, seconds_scoring=90.0, fvd_long=410.25),
]


def test_a_row_has_steps_seconds_of_training_and_figures_with_their_intervals():
    assert variant_table.markdown(PLANNED, variant_table.lines(PLANNED, RUNS)).splitlines() == [
        "toy-1: each variant with 150 CPU s of training a seed; mean and 95 % interval of 3 seeds; figures of 64 "
        "clips.",
        "",
        "|  | steps | wall s | FVD long | ACD |",
        "| --- | --- | --- | --- | --- |",
        "| one | 1600 | 150 | **30** +- 1.5 | 0.21 |",
        "| two | 16 | 150 | 410 | - |",
    ]


def test_a_study_without_variants_has_no_table_and_a_failure_is_said():
    assert variant_table.lines(PLANNED, [run("", 40, fvd_long=3.0)]) == []
    table = variant_table.lines(PLANNED, [*RUNS, run("three", 9, "failed")])
    assert table[-1].seconds is None
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(variant_table.render(PLANNED, table, console.width))
    shown = console.export_text().splitlines()
    assert [line.split()[-1] for line in shown if line.split()[:1] in (["one"], ["three"])] == ["finished", "failed"]


def test_a_narrow_terminal_has_whole_columns_and_is_told_where_the_others_are():
    figures = {name: 17.123 for name in variant_table.FIGURES}
    spread = {f"{name}_{end}": value for name in figures for end, value in (("low", 16.0), ("high", 18.5))}
    variant = "MoCoGAN-HD cross-domain without mutual information"
    table = variant_table.lines(PLANNED, [run(variant, 3830, core_hours=0.5, **figures, **spread)])
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(variant_table.render(PLANNED, table, console.width))
    shown = console.export_text()
    assert "17.1 +- 1.25   17.1 +- 1.25" in shown
    assert "…" not in shown
    assert "recurrence, still: comparison.md" in " ".join(shown.split())
    assert variant_table.fitting([["", "steps", "FVD"], [variant, "**1**", "2"]], 1000) == 3


@pytest.mark.parametrize(
    ("values", "least", "text"),
    [((), None, "-"), ((0.5,), 0.5, "**0.5**"), ((0.5, 0.25, 0.75), 0.4, "0.5 +- 0.25"), ((1234.5,), None, "1234")],
)
def test_a_cell(values, least, text):
    assert variant_table.cell(values, least) == text


def test_a_variant_is_the_first_thing_that_tells_rows_apart():
    config = {"lr": 1e-3, "steps": 40}
    rows = [
        table.Row.from_run(k, config | {"lr": 0.1 * k} | variant_table.labels({"variant": f"v{k > 0}"}))
        for k in range(3)
    ]
    assert table.differing(rows) == ["variant", "lr"]
    assert table.line(rows[0]) == "trial 0 (variant vFalse)  step 0/40  waiting"
    assert variant_table.labels({"lr": 0.1}) == {}
