"""A worker process of a sandbox, played by a task."""

from __future__ import annotations

import asyncio
import contextlib
import random
from dataclasses import replace

from stepfold.engine.shard_states import ShardState
from stepfold.engine.worker import Worker
from stepfold.sdk.app import App
from stepfold.testing.clock import ManualClock
from stepfold.testing.errors import SandboxError
from stepfold.testing.world import ClockedExecutor, SandboxCluster, SandboxJournal


class Process:
    """A worker process, played by a task."""

    def __init__(
        self, app: App, cluster: SandboxCluster, clock: ManualClock, dice: random.Random
    ) -> None:
        loop = asyncio.get_running_loop()
        self.journal = SandboxJournal(cluster, "sandbox")
        self.worker = Worker(self.journal, [app], worker_id="sandbox", clock=clock, dice=dice)
        self.executor = ClockedExecutor(loop, clock)
        self.worker.around = replace(self.worker.around, executor=self.executor)
        working = self.worker.run(ready=lambda: None, stopping=asyncio.Event())
        self._working = loop.create_task(working, name="sandbox worker")

    def check(self) -> None:
        """Raises SandboxError when the worker cannot work any more."""
        if self._working.done():
            error = None if self._working.cancelled() else self._working.exception()
            raise SandboxError(f"the worker has ended: {error!r}") from error
        for owner in self.worker.owners():
            if owner.state is ShardState.FAULTED:
                raise SandboxError(f"the shard cannot be led: {owner.fault}")

    def is_idle(self, held: int) -> bool:
        """Whether it waits for something new; held: attempts that the test keeps."""
        owners = self.worker.owners()
        return (
            bool(owners)
            and all(owner.state is ShardState.LEADING for owner in owners)
            and self.journal.appender.outstanding == 0
            and self.executor.running == held
            and not self.executor.is_ending
        )

    async def kill(self) -> None:
        self.journal.kill()
        self._working.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._working
