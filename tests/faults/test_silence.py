"""Work that is slower than a limit on silence, on a clock that runs 100 times faster: --patience 0.15 (9 s) for 15
minutes, and so 36 s for the hour after which a study without a movement ends. On a machine on which FVD of two clips
takes seconds, the clock runs more slowly.
"""

import contextlib
import re
import signal
import subprocess
import sys
import time

import psutil
import pytest
import torch
from harness import DRIVER, SMALL, Sweep, figures

from svgan.metrics import fvd, i3d
from svgan.metrics.protocol import PROTOCOLS, usual_precision
from sweeps.driver.stall_limit import SILENCES
from sweeps.storage import life
from sweeps.storage.plan import PLAN_FILE

pytestmark = pytest.mark.slow
LEAST_PATIENCE = 0.15


@pytest.fixture(scope="module")
def patience():
    """--patience, in minutes."""
    network = i3d.load(precision=usual_precision("cpu"))
    began = time.perf_counter()
    network(torch.zeros(fvd.BATCH["cpu"], PROTOCOLS["svg-short"].frames, 64, 64, 3, dtype=torch.uint8))
    return max(LEAST_PATIENCE, round(4 * (time.perf_counter() - began) / 60, 3))


def does(sweep: Sweep) -> str:
    """What trial 0 does, by its sign of life."""
    begun = (sweep.folder / "runs" / sweep.name / PLAN_FILE).exists()
    return str(begun and life.read(sweep.plan, 0))


def test_steps_and_a_scoring_slower_than_the_limit_are_no_standstill(footage, tmp_path, patience):
    steps, clips, limit = 16, 16, SILENCES * 60 * patience
    sweep = Sweep(
        tmp_path,
        footage[0],
        *("--name", "slow", "--patience", f"{patience:g}", "--grid", "gap_weight=100", *SMALL),
        *("--steps", str(steps), "--clips", str(clips)),
        environment={
            "TOY_REPORTS": "1",
            "TOY_PACE": f"{1.1 * limit / steps:.2f}",
            "TOY_CLIP_PACE": f"{1.1 * limit / clips:.2f}",  # two clips at a time, for each of two protocols
        },
    )
    sweep.until(lambda: does(sweep).startswith("step "))
    sweep.until(lambda: "generated clips " in does(sweep))
    command = [sys.executable, "-m", "sweeps", "status", "slow"]
    status = subprocess.run(command, env=sweep.environment, cwd=tmp_path, capture_output=True, text=True).stdout
    assert re.search(r"scoring \d+/16", status)
    assert re.search(r"trial 0: FVD (short|long), generated clips \d+ of 16", status)
    shown = sweep.end()
    assert {step for name, step in figures(sweep.plan)[0] if name == "latent_fd"} == {steps}, "one report, at the end"
    assert "trial 0 " in shown
    assert "generated clips " in shown, "a trial that is silent for --patience shows its sign of life"


def test_a_study_in_which_nothing_moves_ends_with_the_reason(footage, tmp_path, patience):
    """The trial's own process is frozen. Its worker waits for it at a report, and kills itself."""
    sweep = Sweep(
        tmp_path,
        footage[0],
        *("--name", "stuck", "--patience", f"{patience:g}", "--grid", "gap_weight=100", *SMALL),
        *("--steps", "160", "--clips", "0"),
        holds_at=1,
    )
    sweep.until_held()
    frozen = sweep.processes(DRIVER)[0]
    frozen.send_signal(signal.SIGSTOP)
    sweep.release()
    try:
        shown = sweep.end(2)
    finally:
        with contextlib.suppress(psutil.NoSuchProcess):
            frozen.kill()
    assert re.search("nothing moved for [0-9ms ]+, so ended: trials 0 running", shown)
    assert "trial 0 at last: " in shown
    assert "; use --resume" in shown
