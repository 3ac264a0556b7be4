"""What measures the training step must run on a machine that has a GPU and torch, and no platform."""

import subprocess
import sys
from pathlib import Path

BENCH = Path(__file__).parents[2] / "bench/training_step.py"
RUN = """
import runpy, sys
for name in ("ray", "mlflow", "optuna"):
    sys.modules[name] = None  # an import of it fails
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def test_the_training_step_is_measured_without_ray_mlflow_or_optuna():
    flags = ["--recipes", "tiny", "--rounds", "1", "--iterations", "1", "--n-critic", "1", "--codes", "2", "16"]
    told = subprocess.run([sys.executable, "-c", RUN, str(BENCH), *flags], capture_output=True, text=True)
    assert told.returncode == 0, told.stderr
    rows = [line.split(" | ") for line in told.stdout.splitlines() if line.startswith("| tiny")]
    assert [row[1] for row in rows[:2]] == ["iteration", "generator step"]
    assert all(float(figure) > 0 for row in rows[:2] for figure in row[2:5])
