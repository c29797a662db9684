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
from collections import defaultdict
from collections.abc import Callable, Collection, Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from stepfold.core.shard import Chain
from stepfold.engine.checkpoints import EVENTS_BETWEEN
from stepfold.engine.clock import BrokerClock, Clock
from stepfold.engine.directory import Directory
from stepfold.engine.executor import Executor
from stepfold.engine.health import ShardHealth
from stepfold.engine.isolation import Isolation
from stepfold.engine.limbo import LimboWatch
from stepfold.engine.owner import ShardOwner
from stepfold.engine.places import ISOLATED_MAX, Places
from stepfold.engine.shard_states import ShardState
from stepfold.engine.surroundings import Limits, Surroundings
from stepfold.engine.takeover import ClaimPace, Log
from stepfold.engine.topics_watch import TopicsWatch
from stepfold.journal.port import AppTopics, Journal, Membership, ShardId
from stepfold.sdk.app import App

logger = logging.getLogger(__name__)

REVOKE_GRACE_S = 5.0
"""Attempts get this long to end when the shard moves to another process."""
STOP_GRACE_S = 20.0
"""Attempts get this long to end on SIGTERM; with the proofs after it, below 25 s."""


@dataclass(slots=True)
class _Owned:
    owner: ShardOwner
    task: asyncio.Task[None]


@dataclass(slots=True)
class _Leaving:
    """A shard that is given up in order; `task` ends when nothing of it is left here."""

    owner: ShardOwner
    task: asyncio.Task[None]


@dataclass(slots=True)
class _Limbo:
    """A shard that was lost; `ending` is the last work of its owner here."""

    ending: asyncio.Task[None]
    timer: asyncio.TimerHandle
    watch: LimboWatch | None = None

    def end(self) -> None:
        self.timer.cancel()
        if self.watch is not None:
            self.watch.close()


@dataclass
class _AppMember:
    """One app's place in its group. A MembershipListener."""

    worker: Worker
    app: App
    topics: AppTopics
    membership: Membership
    watch: TopicsWatch
    owned: dict[int, _Owned] = field(default_factory=dict[int, _Owned])
    leaving: dict[int, _Leaving] = field(default_factory=dict[int, _Leaving])
    limbo: dict[int, _Limbo] = field(default_factory=dict[int, _Limbo])
    led_until: dict[int, Chain] = field(default_factory=dict[int, Chain])
    paces: defaultdict[int, ClaimPace] = field(default_factory=lambda: defaultdict(ClaimPace))

    def assigned(self, partitions: Collection[int]) -> None:
        for partition in partitions:
            before = self._left(partition)
            limbo = self.limbo.pop(partition, None)
            if limbo is not None:
                limbo.end()
                before.append(limbo.ending)
            if partition not in self.owned:
                self._own(partition, before)

    def revoked(self, partitions: Collection[int], done: Callable[[], None]) -> None:
        # At once: they may be assigned again before a task of ours gets its turn.
        self._leave(partitions, REVOKE_GRACE_S)
        self.worker.spawn(self._left_all(partitions, done))

    def lost(self, partitions: Collection[int]) -> None:
        for partition in partitions:
            owned = self.owned.pop(partition, None)
            if owned is not None:
                owned.task.cancel()
                self._enter_limbo(partition, owned)

    async def release_all(self, grace_s: float) -> None:
        partitions = [*self.owned, *self.leaving]
        self._leave(partitions, grace_s)
        await self._left_all(partitions, lambda: None)

    def shards(self) -> Iterator[ShardHealth]:
        for owner in self._owners():
            leader = owner.leader
            unproven, oldest_s = 0, 0.0
            if leader is not None:
                unproven, oldest_s = leader.writer.unproven, leader.writer.oldest_s
            yield self._health(owner.shard_id, owner.state, unproven, oldest_s)
        for partition in self.limbo:
            yield self._health(self._id_of(partition), ShardState.LIMBO, 0, 0.0)

    def _owners(self) -> Iterator[ShardOwner]:
        """Of each shard the one that counts: a later owner waits for a former one to end."""
        for partition in sorted({*self.owned, *self.leaving}):
            yield (self.leaving.get(partition) or self.owned[partition]).owner

    def _health(
        self, shard_id: ShardId, state: ShardState, unproven: int, oldest_s: float
    ) -> ShardHealth:
        executor = self.worker.around.executor
        return ShardHealth(
            app=shard_id.app,
            partition=shard_id.partition,
            state=state.value,
            unproven=unproven,
            oldest_unproven_s=round(oldest_s, 3),
            running=len(executor.running_of(shard_id)),
            kept=executor.kept_of(shard_id),
        )

    def _own(self, partition: int, before: list[asyncio.Task[None]]) -> None:
        owner = ShardOwner(
            shard_id=self._id_of(partition),
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
            pace=self.paces[partition],
        )
        work = _run_after(before, owner)
        task = self.worker.spawn(work, name=f"{self.app.name}/{partition}")
        self.owned[partition] = _Owned(owner, task)

    def _enter_limbo(self, partition: int, owned: _Owned) -> None:
        loop = asyncio.get_running_loop()
        timer = loop.call_later(
            self.worker.around.limits.limbo_max_s, self._give_up, partition, "nobody came back"
        )
        limbo = self.limbo[partition] = _Limbo(owned.task, timer)
        owned.task.add_done_callback(lambda _: self._watch(partition, limbo, owned.owner))

    def _watch(self, partition: int, limbo: _Limbo, former: ShardOwner) -> None:
        """The former owner has ended, and reads the history no more."""
        led_until = former.led_until or self.led_until.get(partition)
        if led_until is None:
            return  # it never led, and so has no attempts to protect
        self.led_until[partition] = led_until
        if self.limbo.get(partition) is limbo:
            limbo.watch = LimboWatch(
                reader=self.worker.journal.reader,
                history=self.topics.history.name,
                partition=partition,
                led_until=led_until,
                worker_id=self.worker.around.worker_id,
                on_taken=partial(self._give_up, partition, "another process claimed it"),
            )
            limbo.watch.open()

    def _leave(self, partitions: Collection[int], grace_s: float) -> None:
        for partition in partitions:
            if partition in self.owned:
                self._leave_one(partition, grace_s)

    def _leave_one(self, partition: int, grace_s: float) -> None:
        owned, before = self.owned.pop(partition), self._left(partition)
        task = self.worker.spawn(self._let_go(partition, owned, before, grace_s))
        leaving = self.leaving[partition] = _Leaving(owned.owner, task)

        def forget(_: asyncio.Task[None]) -> None:
            if self.leaving.get(partition) is leaving:
                del self.leaving[partition]

        task.add_done_callback(forget)

    async def _left_all(self, partitions: Collection[int], done: Callable[[], None]) -> None:
        try:
            await asyncio.gather(*(task for p in partitions for task in self._left(p)))
        finally:
            done()

    def _left(self, partition: int) -> list[asyncio.Task[None]]:
        leaving = self.leaving.get(partition)
        return [] if leaving is None else [leaving.task]

    async def _let_go(
        self, partition: int, owned: _Owned, before: list[asyncio.Task[None]], grace_s: float
    ) -> None:
        if before:
            await asyncio.wait(before)
        await owned.owner.drain(grace_s)
        owned.task.cancel()
        await asyncio.wait((owned.task,))
        self._give_up(partition, "it was released")

    def _give_up(self, partition: int, reason: str) -> None:
        limbo = self.limbo.pop(partition, None)
        if limbo is not None:
            limbo.end()
            logger.warning(
                "lost shard is given up",
                extra={"app": self.app.name, "partition": partition, "reason": reason},
            )
        self.worker.around.executor.give_up(self._id_of(partition))

    def _id_of(self, partition: int) -> ShardId:
        return ShardId(self.app.name, partition)


async def _run_after(before: list[asyncio.Task[None]], owner: ShardOwner) -> None:
    """All use the same partitions of one reader: who comes later begins when the rest has ended."""
    if before:
        await asyncio.wait(before)
    await owner.run()


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
        limits: Limits | None = None,
        isolation: Isolation | None = None,
        isolated_max: int = ISOLATED_MAX,
    ) -> None:
        loop = asyncio.get_running_loop()
        self.journal = journal
        self.build = build
        self.around = Surroundings(
            clock=clock or BrokerClock(loop),
            executor=Executor(
                loop, isolation=isolation, places=Places(loop, isolated_max=isolated_max)
            ),
            directory=Directory(journal.topics),
            worker_id=worker_id,
            events_between_checkpoints=events_between_checkpoints,
            dice=dice or secrets.SystemRandom(),
            limits=limits or Limits(),
        )
        self._apps = apps
        self._members: list[_AppMember] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._failed: asyncio.Future[None] = loop.create_future()
        self.is_ready = False
        """From when all groups are joined until it is told to stop."""

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
            self.is_ready = True
            ready()
            stop = self.spawn(_until(stopping), name="stopping")
            await asyncio.wait((stop, self._failed), return_when=asyncio.FIRST_COMPLETED)
            self.is_ready = False
            if self._failed.done():
                self._failed.result()
            await asyncio.gather(*(m.release_all(STOP_GRACE_S) for m in self._members))
        finally:
            await self._close()

    def owners(self) -> list[ShardOwner]:
        """Of the shards that this process is a candidate for."""
        return [owned.owner for member in self._members for owned in member.owned.values()]

    def states(self) -> Mapping[ShardId, ShardState]:
        """Of the shards that this process is a candidate for, or has just lost."""
        return {
            ShardId(shard.app, shard.partition): ShardState(shard.state) for shard in self.shards()
        }

    def shards(self) -> list[ShardHealth]:
        """The same shards, with what a monitor wants to know of them."""
        return [shard for member in self._members for shard in member.shards()]

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
