"""A worker process: the members of each app's group, and an owner for each shard assigned.

The composition root of the engine. Assignments only say for which shards this process
is a candidate; a shard that is revoked is drained first, one that is lost is kept in
limbo for a while, because a lost group session does not mean that anybody took over.
"""

from __future__ import annotations

import asyncio
import logging
import random
import secrets
import sys
import threading
import time
import traceback
from collections.abc import Callable, Collection, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from stepfold.engine.checkpoints import EVENTS_BETWEEN
from stepfold.engine.clock import BrokerClock, Clock
from stepfold.engine.directory import Directory
from stepfold.engine.executor import Executor
from stepfold.engine.owner import Log, ShardOwner
from stepfold.engine.shard_states import ShardState
from stepfold.engine.surroundings import Surroundings
from stepfold.engine.topics_watch import TopicsWatch
from stepfold.journal.port import AppTopics, Journal, Membership, ShardId
from stepfold.sdk.app import App

logger = logging.getLogger(__name__)

LIMBO_MAX_S = 30.0
"""How long attempts of a lost shard go on when nobody is seen to have taken it."""
REVOKE_GRACE_S = 5.0
"""Attempts get this long to end when the shard moves to another process."""
STOP_GRACE_S = 20.0
"""Attempts get this long to end on SIGTERM; with the proofs after it, below 25 s."""
BLOCKED_LOOP_S = 1.0
"""A step that keeps the loop from turning for this long is reported by name."""
HEARTBEAT_S = 0.25


@dataclass(slots=True)
class _Owned:
    owner: ShardOwner
    task: asyncio.Task[None]


@dataclass
class _AppMember:
    """One app's place in its group. A MembershipListener."""

    worker: Worker
    app: App
    topics: AppTopics
    membership: Membership
    watch: TopicsWatch
    owned: dict[int, _Owned] = field(default_factory=dict[int, _Owned])
    limbo: dict[int, asyncio.TimerHandle] = field(default_factory=dict[int, asyncio.TimerHandle])

    def assigned(self, partitions: Collection[int]) -> None:
        for partition in partitions:
            timer = self.limbo.pop(partition, None)
            if timer is not None:
                timer.cancel()
            if partition not in self.owned:
                self._own(partition)

    def revoked(self, partitions: Collection[int], done: Callable[[], None]) -> None:
        self.worker.spawn(self._release(partitions, REVOKE_GRACE_S, done))

    def lost(self, partitions: Collection[int]) -> None:
        loop = asyncio.get_running_loop()
        for partition in partitions:
            owned = self.owned.pop(partition, None)
            if owned is not None:
                owned.task.cancel()
                self.limbo[partition] = loop.call_later(LIMBO_MAX_S, self._give_up, partition)

    async def release_all(self, grace_s: float) -> None:
        await self._release(list(self.owned), grace_s, lambda: None)

    def _own(self, partition: int) -> None:
        owner = ShardOwner(
            shard_id=ShardId(self.app.name, partition),
            app=self.app,
            log=Log(
                appender=self.worker.journal.appender,
                reader=self.worker.journal.reader,
                membership=self.membership,
                topics=self.topics,
                watch=self.watch,
            ),
            around=self.worker.around,
            build=self.worker.build,
        )
        task = self.worker.spawn(owner.run(), name=f"{self.app.name}/{partition}")
        self.owned[partition] = _Owned(owner, task)

    async def _release(
        self, partitions: Collection[int], grace_s: float, done: Callable[[], None]
    ) -> None:
        try:
            leaving = [(p, self.owned.pop(p)) for p in partitions if p in self.owned]
            await asyncio.gather(*(owned.owner.drain(grace_s) for _, owned in leaving))
            for partition, owned in leaving:
                owned.task.cancel()
                await asyncio.wait((owned.task,))
                self._give_up(partition)
        finally:
            done()

    def _give_up(self, partition: int) -> None:
        self.limbo.pop(partition, None)
        self.worker.around.executor.give_up(ShardId(self.app.name, partition))


class Worker:
    def __init__(
        self,
        journal: Journal,
        apps: Sequence[App],
        *,
        worker_id: str,
        build: str = "",
        clock: Clock | None = None,
        events_between_checkpoints: int = EVENTS_BETWEEN,
        dice: random.Random | None = None,
    ) -> None:
        loop = asyncio.get_running_loop()
        self.journal = journal
        self.build = build
        self.around = Surroundings(
            clock=clock or BrokerClock(loop),
            executor=Executor(loop),
            directory=Directory(journal.topics),
            worker_id=worker_id,
            events_between_checkpoints=events_between_checkpoints,
            dice=dice or secrets.SystemRandom(),
        )
        self._apps = apps
        self._members: list[_AppMember] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._failed: asyncio.Future[None] = loop.create_future()

    async def run(self, *, ready: Callable[[], None], stopping: asyncio.Event) -> None:
        """Work until `stopping` is set, then drain; raises what no retry can mend."""
        try:
            for app in self._apps:
                topics = await self.journal.topics(app.name)
                self.around.directory.note(app.name, topics)
                membership = self.journal.membership(app.name)
                watch = TopicsWatch(app.name, topics, self.journal.topics)
                member = _AppMember(self, app, topics, membership, watch)
                self._members.append(member)
                self.spawn(watch.run(), name=f"topics of {app.name}")
                membership.start(member)
            ready()
            stop = self.spawn(_until(stopping), name="stopping")
            await asyncio.wait((stop, self._failed), return_when=asyncio.FIRST_COMPLETED)
            if self._failed.done():
                self._failed.result()
            await asyncio.gather(*(m.release_all(STOP_GRACE_S) for m in self._members))
        finally:
            await self._close()

    def owners(self) -> list[ShardOwner]:
        """Of the shards that this process is a candidate for."""
        return [owned.owner for member in self._members for owned in member.owned.values()]

    def states(self) -> Mapping[ShardId, ShardState]:
        return {owner.shard_id: owner.state for owner in self.owners()}

    def faults(self) -> Mapping[ShardId, str]:
        """Why the faulted ones of its shards are not led: a person has to look."""
        return {owner.shard_id: owner.fault for owner in self.owners() if owner.fault is not None}

    def spawn(self, work: Coroutine[Any, Any, None], name: str = "") -> asyncio.Task[None]:
        """A task of this worker; one that fails ends the worker."""
        task = asyncio.get_running_loop().create_task(work, name=name or None)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None and not self._failed.done():
            self._failed.set_exception(task.exception() or RuntimeError())

    async def _close(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(list(self._tasks), timeout=5.0)
        self.around.directory.close()
        self.around.executor.close()
        for member in self._members:
            await member.membership.close()
        await self.journal.close()


async def _until(event: asyncio.Event) -> None:
    await event.wait()


class LoopWatch:
    """Reports by name the task that keeps the loop from turning.

    A thread of its own: what it watches for is just what would keep a task from running.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._beat_at = time.monotonic()
        self._closed = threading.Event()
        self._beat()
        self._thread = threading.Thread(target=self._watch, name="loop-watch", daemon=True)
        self._thread_id = threading.get_ident()
        self._thread.start()

    def close(self) -> None:
        self._closed.set()
        self._handle.cancel()

    def _beat(self) -> None:
        self._beat_at = time.monotonic()
        self._handle = self._loop.call_later(HEARTBEAT_S, self._beat)

    def _watch(self) -> None:
        reported_for = 0.0
        while not self._closed.wait(HEARTBEAT_S):
            blocked_s = time.monotonic() - self._beat_at
            if blocked_s < BLOCKED_LOOP_S + HEARTBEAT_S or reported_for == self._beat_at:
                continue
            reported_for = self._beat_at
            task = asyncio.current_task(self._loop)
            frames = sys._current_frames()  # pyright: ignore[reportPrivateUsage]
            frame = frames.get(self._thread_id)
            stack = "".join(traceback.format_stack(frame, limit=6)) if frame else ""
            logger.warning(
                "step blocks the event loop",
                extra={
                    "step": task.get_name() if task is not None else "unknown",
                    "blocked_s": round(blocked_s, 1),
                    "stack": stack,
                },
            )
