"""The one place that uses classes of Ray Train which it does not publish: a trainer with less around each trial.

Imported where `internals.usable` says so alone; `sweeps.trial.trainer` has the public way.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

from ray.train.v2._internal.callbacks import DatasetsCallback
from ray.train.v2._internal.callbacks.placement_group_callback import PlacementGroupCleanerCallback
from ray.train.v2._internal.execution.controller import TrainController
from ray.train.v2._internal.execution.worker_group import WorkerGroup
from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer


class Workers(WorkerGroup):
    """Ray Train's worker group, which keeps no place when its workers cannot meet: Ray forgets the placement group of a
    start that failed so late, and it would live as long as the trial's process."""

    def _start(self) -> None:
        try:
            super()._start()
        except Exception:
            if self.has_started():
                self.get_worker_group_state().shutdown()
                self._clear_state()
            raise


class Controller(TrainController):
    worker_group_cls = Workers


class TrainerInProcess(DataParallelTrainer):
    """Ray Train's trainer whose controller runs here, in the trial's own process, without two of its actors.

    The one hands out Ray Data's shards, of which there are none; the other removes placement groups of a controller
    that died, which `placement_groups.LeakedGroupRemover` does for all trials, sooner and without the dashboard.
    """

    running: tuple[asyncio.AbstractEventLoop, asyncio.Task[None]] | None = None

    def _create_default_callbacks(self) -> list[Any]:
        without = (DatasetsCallback, PlacementGroupCleanerCallback)
        return [callback for callback in super()._create_default_callbacks() if not isinstance(callback, without)]

    def _initialize_and_run_controller(self, **arguments: Any) -> Any:
        return asyncio.run(self._controlled(Controller(**arguments)))

    async def _controlled(self, controller: TrainController) -> Any:
        self.running = asyncio.get_running_loop(), asyncio.ensure_future(controller.run())
        try:
            await self.running[1]
        except asyncio.CancelledError:
            if group := controller.get_worker_group():
                group.shutdown()
            raise
        return controller.get_result()

    def stop(self) -> bool:
        """End the workers, from another thread; True: `fit` returns soon."""
        if self.running is not None:
            loop, task = self.running
            with contextlib.suppress(RuntimeError):  # it has ended
                loop.call_soon_threadsafe(task.cancel)
        return True
