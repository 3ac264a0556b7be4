"""Run on a cluster's head, by its Python: what MLflow knows of a study, as one line of JSON.

python - NAME < probe.py
"""

import json
import sys
from pathlib import Path

from sweeps.storage.plan import Plan
from sweeps.tracking.client import Tracking

# Clocks tell of the machine and not of the model.
CLOCKS = ("iterations_per_second", "seconds", "hours", "system/")


def points(tracking: Tracking, run) -> list[tuple[str, int, float]]:
    """Every figure of a run, but clocks."""
    return [
        (point.key, point.step, point.value)
        for key in sorted(run.data.metrics)
        if not any(clock in key for clock in CLOCKS)
        for point in tracking.client.get_metric_history(run.info.run_id, key)
    ]


def main() -> None:
    plan = Plan.load(Path.home() / "runs" / sys.argv[1])
    tracking = Tracking(plan)
    runs = tracking.runs()
    champion = [model.tags for model in tracking.client.search_model_versions(f"name='{plan.output.model}'")]
    told = {
        "status": tracking.client.get_run(tracking.parent_id()).info.status,
        "tags": tracking.client.get_run(tracking.parent_id()).data.tags,
        "trials": [{"status": run.info.status, "tags": run.data.tags, "points": points(tracking, run)} for run in runs],
        "latents": plan.data.latents,
        "storage": plan.output.storage,
        "model": plan.output.model,
        "versions": len(champion),
    }
    print("\n" + json.dumps(told))


main()
