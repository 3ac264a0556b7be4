"""A system of a package that svgan does not know, through the platform: a grid study on a real Ray, promoted, back by
its alias, reproduced and judged again, with no line of svgan or sweeps changed."""

import subprocess
import sys

import mlflow
import pytest
from made_fourth import fourth  # noqa: F401  (a fixture)
from test_ray import place  # noqa: F401  (a fixture)

from sweeps import study
from sweeps.storage.plan import Plan
from sweeps.study import Study
from sweeps.tracking.client import Tracking, sweep_models

pytestmark = pytest.mark.slow


def test_it_is_swept_promoted_and_judged_again(fourth, place, footage):  # noqa: F811
    asked = Study("lines", {}, "lines", domain=footage[0], steps=4, clips=2, reports=2, grid={"speed": [0.1, 0.3]})
    promotion = study.run(asked, ["--name", "lines", "--grid"])
    assert promotion.version == "1"
    plan = Plan.load(place / "runs" / "lines")
    tracking = Tracking(plan)
    runs = tracking.runs()
    assert [run.data.params["speed"] for run in runs] == ["0.1", "0.3"]
    for run in runs:
        assert run.info.status == "FINISHED"
        assert run.data.params["system"] == "lines"
        assert run.data.metrics["fvd_short"] > 0
        assert run.data.metrics["fvd_long"] > 0
    models = sweep_models(tracking.client, tracking.experiment, plan.name)
    assert {model.tags["svgan.trial"] for model in models} == {"0", "1"}
    mlflow.set_tracking_uri(plan.output.tracking)
    champion = mlflow.pyfunc.load_model(f"models:/{promotion.model}@champion")
    assert champion.predict({"clips": [2], "frames": [9]}).shape == (2, 9, 16, 16, 3)
    for command in (["reproduce", "lines:1"], ["evaluate", "lines:1", "--metrics", "fvd"]):
        done = subprocess.run([sys.executable, "-m", "sweeps", *command], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "NOT" not in done.stdout
