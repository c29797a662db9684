"""A worker process: the real `Worker` on a loop of its own, and what may happen to it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

from stepfold.core.shard import Shard
from stepfold.engine.clock import BrokerClock
from stepfold.engine.shard_states import ShardState
from stepfold.engine.worker import Worker
from stepfold.journal.port import ShardId
from stepfold.sdk.app import App
from tests.simulation.cluster import EPOCH_MS, SimCluster
from tests.simulation.journal import SimJournal
from tests.simulation.link import Link
from tests.simulation.stage import Stage
from tests.simulation.threadless import Threadless
from tests.simulation.universe import CALLBACK_US, StuckError, new_loop

LOOKS_MAX = 20_000
LOOKS_US = 50_000
"""A process that looks at the clock so often within so short a time waits for it by spinning."""


class SimProcess:
    """member: its name in the group, which a successor takes over. on_end: it is gone."""

    def __init__(
        self,
        *,
        cluster: SimCluster,
        stage: Stage,
        app: App,
        member: str,
        incarnation: int,
        dice: random.Random,
        clock_skew_ms: int,
        session_us: int,
        events_between_checkpoints: int,
        on_end: Callable[[SimProcess], None],
    ) -> None:
        self.member = member
        self.name = f"{member}.{incarnation}"
        self.stage = stage
        self.universe = cluster.universe
        self.loop = new_loop(self.universe, self.name)
        self.loop.owner = self
        self.loop.on_death = lambda: self.crash("at a callback")
        self.journal = SimJournal(cluster, Link(self.name), member, self.loop)
        self.worker: Worker | None = None
        self.is_stopping = False
        self._app = app
        self._dice = dice
        self._clock_skew_ms = clock_skew_ms
        self._session_us = session_us
        self._events_between_checkpoints = events_between_checkpoints
        self._on_end = on_end
        self._stopping: asyncio.Event | None = None
        self._looks = 0
        self._looks_since_us = 0

    @property
    def is_alive(self) -> bool:
        return not self.loop.is_dead

    def start(self) -> None:
        self.stage.note(self.name, "starts, its clock is %+d ms off", self._clock_skew_ms)
        self.loop.call_soon(self._boot)

    def crash(self, why: str) -> None:
        """kill -9, between two callbacks."""
        if self.is_alive:
            self.stage.fault(self.name, "crash", why)
            self._end()

    def pause(self) -> None:
        """SIGSTOP."""
        if self.is_alive and not self.loop.is_paused:
            self.stage.fault(self.name, "pause")
            self.loop.pause()
            self.journal.freeze()

    def resume(self) -> None:
        if self.is_alive and self.loop.is_paused:
            self.stage.note(self.name, "goes on")
            self.loop.resume()
            self.journal.thaw()

    def slow_down(self, callback_us: int) -> None:
        if self.is_alive:
            if callback_us != CALLBACK_US:
                self.stage.fault(self.name, "slow", callback_us)
            self.loop.callback_us = callback_us

    def stop(self) -> None:
        """SIGTERM."""
        if self.is_alive and self._stopping is not None and not self.is_stopping:
            self.stage.fault(self.name, "stop")
            self.is_stopping = True
            self.loop.call_soon(self._stopping.set)

    def states(self) -> dict[ShardId, ShardState]:
        return dict(self.worker.states()) if self.worker is not None and self.is_alive else {}

    def led(self) -> dict[int, tuple[Shard, int]]:
        """Of each shard that is led here with nothing unproven: its state, and up to where."""
        found: dict[int, tuple[Shard, int]] = {}
        if self.worker is None or not self.is_alive:
            return found
        for owner in self.worker.owners():
            leader = owner.leader
            if leader is not None and leader.writer.is_certain and not leader.writer.unproven:
                found[owner.shard_id.partition] = (leader.shard, leader.writer.last_offset)
        return found

    def shard_faults(self) -> list[str]:
        """What a shard of this process says that a person has to look at."""
        owners = [] if self.worker is None else self.worker.owners()
        return [owner.fault for owner in owners if owner.fault is not None]

    def _boot(self) -> None:
        self._stopping = asyncio.Event()
        self.worker = Worker(
            self.journal,
            [self._app],
            worker_id=self.name,
            clock=BrokerClock(self.loop, self._wall_s),
            events_between_checkpoints=self._events_between_checkpoints,
            dice=self._dice,
        )
        self.worker.around.executor.threads = Threadless(self.loop)
        run = self.worker.run(ready=self._is_ready, stopping=self._stopping)
        self.loop.create_task(run, name=self.name).add_done_callback(self._ended)

    def _wall_s(self) -> float:
        self._looks += 1
        if self._looks > LOOKS_MAX:
            now_us, since_us = self.universe.now_us, self._looks_since_us
            if now_us - since_us < LOOKS_US:
                raise StuckError(
                    f"{self.name} spins: {LOOKS_MAX} looks at the clock from {since_us}"
                )
            self._looks, self._looks_since_us = 0, now_us
        return (EPOCH_MS + self._clock_skew_ms) / 1_000 + self.universe.now_s

    def _is_ready(self) -> None:
        for membership in self.journal.memberships:
            membership.session_us = self._session_us
            membership.on_fatal = self._fenced

    def _fenced(self) -> None:
        """The client is broken for good, and the process ends itself (rule R15)."""
        if self.is_alive:
            self.stage.note(self.name, "ends itself: fenced")
            self._end()

    def _ended(self, run: asyncio.Task[None]) -> None:
        if not run.cancelled() and run.exception() is not None:
            self.stage.problem(f"{self.name} died of {run.exception()!r}")
        self.stage.note(self.name, "has stopped")
        self._end()

    def _end(self) -> None:
        self.loop.kill()
        self.journal.die()
        self._on_end(self)
