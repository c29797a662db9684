"""Keeps N worker processes alive.

A process that ends unasked is replaced at once, under the same instance id, so that it
is assigned its shards again without a rebalance; one that dies before it is ready is
replaced with growing delays, or, if none ever was ready and it says why, not at all.
SIGTERM is passed on and waited for; a second one ends everything.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from stepfold.engine.process import ORDER_VARIABLE, READY_LINE, EngineOptions, ProcessOrder
from stepfold.engine.slots import Slot, take_slot

logger = logging.getLogger(__name__)

STOP_TIMEOUT_S = 25.0
"""From SIGTERM to SIGKILL; Kubernetes grants 30."""
RESTART_DELAY_MAX_S = 10.0
REFUSED_EXITS = frozenset({2, 3, 4, 5, 6})
"""Exit codes of a process that will not start better the next time: usage, configuration,
Kafka that refuses. They end the worker only if it never ran: what it found well before, such
as a broker that is away now, will be well again."""


class Supervisor:
    def __init__(
        self,
        targets: Sequence[str],
        *,
        bootstrap_servers: str,
        kafka_config: Mapping[str, str] | None = None,
        processes: int = 1,
        name: str | None = None,
        unsafe_dev: bool = False,
        directory: Path | None = None,
        options: EngineOptions | None = None,
        ready: Callable[[], None] | None = None,
    ) -> None:
        if not 1 <= processes <= 256:
            raise ValueError(f"processes must be 1 to 256, got {processes}")
        self._targets = tuple(targets)
        self._bootstrap_servers = bootstrap_servers
        self._kafka_config = dict(kafka_config or {})
        self._count = processes
        self._name = name
        self._unsafe_dev = unsafe_dev
        self._directory = directory or Path.cwd()
        self._options = options or EngineOptions()
        self._ready = ready
        self._processes: dict[int, asyncio.subprocess.Process] = {}
        self._stopping = asyncio.Event()
        self._running = asyncio.Event()
        self._ready_count = 0

    @property
    def pids(self) -> list[int]:
        return [process.pid for process in self._processes.values()]

    async def wait_running(self) -> None:
        """Until at least one worker process is there."""
        await self._running.wait()

    def stop(self) -> None:
        """Once: drain. Twice: end at once."""
        number = signal.SIGKILL if self._stopping.is_set() else signal.SIGTERM
        self._stopping.set()
        for process in self._processes.values():
            if process.returncode is None:
                process.send_signal(number)

    async def run(self) -> int:
        """Until `stop`; the exit code for the command line."""
        slots = [take_slot(self._bootstrap_servers, self._name) for _ in range(self._count)]
        try:
            async with asyncio.TaskGroup() as tasks:
                keepers = [
                    tasks.create_task(self._keep(slot, number)) for number, slot in enumerate(slots)
                ]
        finally:
            for slot in slots:
                slot.release()
        return max((keeper.result() for keeper in keepers), default=0)

    async def _keep(self, slot: Slot, number: int) -> int:
        delay_s = 0.0
        ever_ready = False
        while not self._stopping.is_set():
            code, was_ready = await self._run_one(slot, number)
            if self._stopping.is_set():
                break
            ever_ready = ever_ready or was_ready
            if code in REFUSED_EXITS and not ever_ready:
                self.stop()
                return code
            delay_s = 0.0 if was_ready else min(delay_s * 2 + 0.1, RESTART_DELAY_MAX_S)
            logger.warning(
                "worker process ended, replacing it",
                extra={"instance": slot.instance_id, "exit_code": code, "delay_s": delay_s},
            )
            await self._pause(delay_s)
        return 0

    async def _pause(self, delay_s: float) -> None:
        try:
            await asyncio.wait_for(self._stopping.wait(), delay_s)
        except TimeoutError:
            return

    async def _run_one(self, slot: Slot, number: int) -> tuple[int, bool]:
        """The process's exit code, and whether it ever became ready."""
        order = ProcessOrder(
            targets=self._targets,
            bootstrap_servers=self._bootstrap_servers,
            kafka_config=self._kafka_config,
            instance_id=slot.instance_id,
            unsafe_dev=self._unsafe_dev,
            parent_pid=os.getpid(),
            directory=self._directory,
            number=number,
            options=self._options,
        )
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "stepfold.engine.process",
            stdout=asyncio.subprocess.PIPE,
            env={**os.environ, ORDER_VARIABLE: order.model_dump_json()},
            # A Ctrl-C in the terminal reaches the supervisor only, which passes it on once.
            start_new_session=True,
        )
        self._processes[slot.ordinal] = process
        self._running.set()
        try:
            was_ready, _ = await asyncio.gather(self._relay(process), self._reap(process))
        finally:
            self._processes.pop(slot.ordinal, None)
            if not self._processes:
                self._running.clear()
        return process.returncode or 0, was_ready

    async def _relay(self, process: asyncio.subprocess.Process) -> bool:
        """Pass on what the process prints, but for the line that says that it is ready."""
        assert process.stdout is not None
        was_ready = False
        async for line in process.stdout:
            if line.decode(errors="replace").strip() == READY_LINE:
                was_ready = True
                self._ready_count += 1
                if self._ready is not None and self._ready_count == self._count:
                    self._ready()
            else:
                sys.stdout.buffer.write(line)
                sys.stdout.buffer.flush()
        return was_ready

    async def _reap(self, process: asyncio.subprocess.Process) -> None:
        waiting = asyncio.ensure_future(process.wait())
        stopping = asyncio.ensure_future(self._stopping.wait())
        await asyncio.wait((waiting, stopping), return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        try:
            await asyncio.wait_for(
                asyncio.shield(waiting), STOP_TIMEOUT_S if not waiting.done() else None
            )
        except TimeoutError:
            process.kill()
            await waiting
