"""One trial as a Ray Train run: what is not Ray's own way. Whole ones are in test_ray.py."""

import subprocess
import sys
from queue import Queue

import pytest
from ray.train.v2._internal.execution import context
from ray.train.v2._internal.execution.storage import StorageContext

from sweeps.trial.controller import in_worker


@pytest.mark.parametrize("world", [1, 2])
def test_a_worker_that_is_alone_asks_nobody_for_a_checkpoints_name(world, monkeypatch, tmp_path):
    """Ray's own report, with no actor to be asked."""
    queue: Queue = Queue(1)
    own = context.TrainContext(
        train_run_context=None,
        distributed_context=context.DistributedContext(0, world, 0, world, 0),
        execution_context=context.ExecutionContext(None, queue, None, []),
        storage_context=StorageContext(tmp_path, "study"),
        preemption_context=None,
        controller_actor=None,
        dataset_shard_provider=None,
    )
    monkeypatch.setattr(context, "_train_context", own)

    def loop(config):
        own.report(config)
        assert own._sync_checkpoint_dir_name_across_ranks().startswith("checkpoint_2")
        return config

    if world == 1:
        assert in_worker(loop, {"step": 3}) == {"step": 3}
        assert queue.get_nowait().metrics == {"step": 3}
    else:
        with pytest.raises(AttributeError, match="'NoneType' object has no attribute 'broadcast_from_rank_zero'"):
            in_worker(loop, {"step": 3})


def test_a_trials_own_process_imports_nothing_heavy():
    """Ray imports `run_trial` by the name of its module, in a new process for each trial."""
    code = "import sys, sweeps.trial.controller; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"torch", "mlflow", "optuna", "matplotlib", "sqlalchemy", "scipy"}.intersection(loaded)
