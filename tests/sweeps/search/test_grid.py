"""Grids: what is read and refused, the order of the trials, and the ablation table."""

import csv
import io
from types import SimpleNamespace

import pytest
from made_plan import PLAN
from played_tune import PlayedTune
from rich.console import Console

from svgan.errors import UserError
from sweeps import gap, width
from sweeps.driver.new_plan import asked_grid
from sweeps.search import grid
from sweeps.storage.plan import Plan
from sweeps.study import Study


def test_values_are_json_scalars_else_text():
    read = grid.parse(["gap_weight=0,1e-3,10", "critic=tconv,holistic", "components=null,8"], "tiny")
    assert read == {"gap_weight": [0, 1e-3, 10], "critic": ["tconv", "holistic"], "components": [None, 8]}


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        (["gap_weight"], "--grid gap_weight: write FIELD=VALUE"),
        (["=3"], "--grid =3: write FIELD=VALUE"),
        (["gap=0,1"], "--grid gap: no such field of a run; one of batch"),
        (["recipe=tiny,pca"], "--grid recipe: no such field"),
        (["width="], "--grid width: has no values"),
        (["width=8,16,8"], "--grid width: 8 is there twice"),
        (["gap_weight=0,0.0"], "--grid gap_weight: 0.0 is there twice"),
        (["width=8", "width=16"], "--grid width: given twice"),
    ],
)
def test_a_bad_grid_is_one_line(entries, words):
    with pytest.raises(UserError) as told:
        grid.parse(entries, "tiny")
    assert str(told.value).startswith(words)
    assert "\n" not in str(told.value)


def test_a_studys_own_grid_is_checked_too():
    with pytest.raises(UserError, match="--grid trunk: "):
        asked_grid(Study("x", {}, grid={"trunk": [(64,)]}), [])
    assert asked_grid(width.STUDY, []) == {"width": [8, 16, 32, 64]}
    assert asked_grid(gap.STUDY, None) == {}


def test_points_are_trials_in_the_stated_order(tmp_path):
    choices = {"width": [8, 16], "gap_weight": [0, 1, 10]}
    study = Study("toy", {"batch": 8, "width": [1, 2]}).along(choices)
    assert not study.rungs
    places = {"storage": str(tmp_path), "folder": str(tmp_path)}
    plan = Plan.from_fields(PLAN | places | {"grid": choices, "trials": 6, "controls": 6})
    searcher = PlayedTune(plan, study.space, study.controls)
    given = [searcher.suggest(str(k)) for k in range(6)]
    assert [(g["params"]["width"], g["params"]["gap_weight"]) for g in given] == [
        *((8, weight) for weight in (0, 1, 10)),
        *((16, weight) for weight in (0, 1, 10)),
    ]
    assert all(g["control"] and g["params"]["batch"] == 8 for g in given)
    assert grid.describe(choices) == (
        "grid of 6 points, each run whole, the last field changing fastest: width 8, 16; gap_weight 0, 1, 10"
    )


def test_a_grid_survives_the_study_file(tmp_path):
    plan = Plan.from_fields(
        PLAN | {"folder": str(tmp_path), "grid": {"critic": ["tconv", "holistic"], "lr": [1e-3, 2e-3]}}
    )
    plan.save()
    assert Plan.load(tmp_path) == plan
    with pytest.raises(UserError, match="the grid has 4 points"):
        plan.with_fields(trials=5)


def run(number, outcome, **metrics):
    params = {"gap_weight": str(float(number)), "width": "32", "lr": "0.001"}
    tags = {"svgan.trial": str(number), "svgan.outcome": outcome}
    return SimpleNamespace(data=SimpleNamespace(params=params, metrics=metrics, tags=tags))


def test_the_table_has_the_grids_fields_and_the_figures_there_are(tmp_path):
    runs = [
        run(0, "finished", latent_fd_best=0.25, fvd_long=50.0, latent_fd_best_low=0.2, latent_fd_best_high=0.3),
        run(1, "finished", latent_fd_best=0.28, fvd_long=33.0),
        run(2, "failed"),
    ]
    rows = grid.ablation({"gap_weight": [0, 1, 2]}, runs)
    with grid.write(rows, tmp_path / "ablation.csv").open() as file:
        assert list(csv.DictReader(file)) == rows
    assert list(rows[0]) == [
        *("trial", "gap_weight", "latent_fd_best", "latent_fd_best_low", "latent_fd_best_high", "fvd_long", "outcome"),
    ]
    assert [(row["gap_weight"], row["fvd_long"], row["outcome"]) for row in rows] == [
        ("0.0", "50", "finished"),
        ("1.0", "33", "finished"),
        ("2.0", "", "failed"),
    ]
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(grid.render(rows, "ablation"))
    shown = console.export_text(styles=True)
    assert "\x1b[1m33" in shown
    assert "\x1b[1m50" not in shown
    assert "-" in shown
