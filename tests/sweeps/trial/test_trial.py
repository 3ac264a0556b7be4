"""One trial as a Ray Train run. Whole ones are in test_ray.py."""

import subprocess
import sys


def test_a_trials_own_process_imports_nothing_heavy():
    """Ray imports `run_trial` by the name of its module, in a new process for each trial."""
    code = "import sys, sweeps.trial.controller; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"torch", "mlflow", "optuna", "matplotlib", "sqlalchemy", "scipy"}.intersection(loaded)
