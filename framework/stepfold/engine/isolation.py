"""Runs attempts alone in child processes: what has cost its process before can cost no other.

When such a child dies it points at one step only, and the worker and all other attempts
go on. It is told the run's recorded outcomes, and replays the workflow's code up to the
step's call; no function is sent over, so lambdas and closures work as well.

A child that has served one attempt may serve the next, for an interpreter and the user's
modules take their time to start. But it could die of what an earlier attempt left behind,
so such a death proves nothing: the step then gets a child that nobody had before.
"""

from __future__ import annotations

import asyncio
import os
from collections import defaultdict
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from stepfold.engine.execution import Died, Failed, Result, Succeeded
from stepfold.engine.isolated_process import IsolatedProcess, Replay, Setup

MEMORY_MAX_MB = 2_048
"""What the child of an attempt may allocate, unless set otherwise: far more than a call to a
model takes, and little enough for what eats memory to die before the machine suffers."""
IDLE_S = 30.0
"""How long a child without an attempt is kept for the next one."""
THREADS_MAX = 64
"""More than attempts may run at once: a thread that waits for the end of a cancelled child must
not keep the next attempt from its start."""


class Isolation:
    """targets: MODULE:APP by the app's name; directory: where modules are looked for first."""

    def __init__(
        self,
        targets: Mapping[str, str],
        directory: Path,
        *,
        memory_max_mb: int | None = MEMORY_MAX_MB,
    ) -> None:
        self._setups = {
            app: Setup(
                target=target,
                directory=str(directory),
                memory_max_mb=memory_max_mb,
                parent_pid=os.getpid(),
            )
            for app, target in targets.items()
        }
        self._threads = ThreadPoolExecutor(THREADS_MAX, thread_name_prefix="isolated")
        self._idle: defaultdict[str, list[IsolatedProcess]] = defaultdict(list)
        self._wants_new: set[tuple[str, str]] = set()
        self._is_closed = False

    def knows(self, app: str) -> bool:
        return app in self._setups

    async def execute(self, replay: Replay) -> Result | Died:
        """Cancelling it ends the child, kindly at first."""
        name = (replay.run_id, replay.step)
        process = self._process_for(replay)
        result = await self._execute(process, replay)
        if isinstance(result, Died) and process.served > 1:
            self._wants_new.add(name)
        else:
            self._wants_new.discard(name)
        if isinstance(result, Succeeded | Failed) and not self._is_closed:
            self._keep(replay.app, process)
        else:
            self._end(process)
        return result

    def close(self) -> None:
        self._is_closed = True
        for process in [process for idle in self._idle.values() for process in idle]:
            self._end(process)
        self._threads.shutdown(wait=False)

    async def _execute(self, process: IsolatedProcess, replay: Replay) -> Result | Died:
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._threads, process.execute, replay)
        except asyncio.CancelledError:
            process.stop()
            raise

    def _process_for(self, replay: Replay) -> IsolatedProcess:
        idle = self._idle[replay.app]
        if idle and (replay.run_id, replay.step) not in self._wants_new:
            return idle.pop()
        return IsolatedProcess(self._setups[replay.app])

    def _keep(self, app: str, process: IsolatedProcess) -> None:
        self._idle[app].append(process)
        asyncio.get_running_loop().call_later(
            IDLE_S, partial(self._end_idle, app, process, process.served)
        )

    def _end_idle(self, app: str, process: IsolatedProcess, served: int) -> None:
        """Unless it has served again since then."""
        if process in self._idle[app] and process.served == served:
            self._idle[app].remove(process)
            self._end(process)

    def _end(self, process: IsolatedProcess) -> None:
        self._threads.submit(process.end)
