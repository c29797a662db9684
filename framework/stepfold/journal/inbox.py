"""This process's place in an app's worker group.

The group only says who is *candidate* for which shard. Nothing is read through it: all
assigned partitions are paused at once, and the inbox is read by the manual reader at
the folded position, because a committed one may be ahead of what became history.

One thread owns the consumer. A revocation blocks it until the shards are drained, or a
deadline has passed: the group waits for that long before others may take them.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import queue
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from stepfold.journal.port import Lease, MembershipListener

logger = logging.getLogger(__name__)

POLL_S = 0.05
REVOKE_TIMEOUT_S = 20.0
"""For draining in a revocation; far below max.poll.interval.ms."""
LEASE_TIMEOUT_S = 6.0
HEARTBEAT_S = 1.0
STALE_LOOP_S = 20.0
"""An event loop that did not turn for this long leads nothing any more (rule R15)."""
EXIT_WATCHDOG = 70
CLOSE_TIMEOUT_S = 5.0
LEAVE_TIMEOUT_S = 8.0
"""The others hear of a rebalance by their next heartbeat, each 3 s."""
FOR_GOOD = frozenset({KafkaError.FENCED_INSTANCE_ID, KafkaError._FENCED, KafkaError._FATAL})
"""Another process joined under this name, or the client broke."""
LOST = frozenset(
    {
        KafkaError.FENCED_INSTANCE_ID,
        KafkaError.UNKNOWN_MEMBER_ID,
        KafkaError.STALE_MEMBER_EPOCH,
        KafkaError.FENCED_MEMBER_EPOCH,
        KafkaError._ASSIGNMENT_LOST,
        KafkaError._FENCED,
        KafkaError._FATAL,
    }
)
"""What a commit says to a member that is none any more. Anything else (a rebalance under
way, no coordinator, no answer) also happens to a rightful one: it may ask again."""


def group_of(app: str) -> str:
    """The consumer group of an app's workers."""
    return f"stepfold.{app}"


class KafkaMembership:
    """A Membership. `fatal` says why it ended for good; the process is ended then.

    `end_process` gets an exit code, and is called from the thread.
    """

    def __init__(
        self,
        config: Mapping[str, Any],
        topic: str,
        loop: asyncio.AbstractEventLoop,
        *,
        end_process: Callable[[int], None] = os._exit,
        stale_loop_s: float = STALE_LOOP_S,
    ) -> None:
        self.fatal: str | None = None
        self._end_process = end_process
        self._stale_loop_s = stale_loop_s
        self._consumer = Consumer(dict(config))
        self._topic = topic
        self._history = f"{topic.removesuffix('.inbox')}.history"
        self._loop = loop
        self._listener: MembershipListener | None = None
        self._commands: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._closing = threading.Event()
        self._is_leaving = False
        self._owned: set[int] = set()
        self._beat_at = time.monotonic()
        self._beating: asyncio.Handle | None = None
        self._thread = threading.Thread(
            target=self._work_to_the_end, name="stepfold-member", daemon=True
        )

    def start(self, listener: MembershipListener) -> None:
        self._listener = listener
        self._beat()
        self._thread.start()

    async def check_lease(self, partition: int, inbox_offset: int | None) -> Lease:
        if self.fatal is not None:
            return Lease.LOST
        answer: asyncio.Future[Lease] = self._loop.create_future()

        def ask() -> None:
            if answer.cancelled():
                return
            lease = self._commit_now(partition, inbox_offset)
            self._call(lambda: None if answer.done() else answer.set_result(lease))

        self._commands.put(ask)
        try:
            # Not wait_for: before Python 3.12 it loses a cancellation that meets the answer.
            async with asyncio.timeout(LEASE_TIMEOUT_S):
                return await answer
        except TimeoutError:
            return Lease.UNKNOWN

    def commit(self, partition: int, inbox_offset: int) -> None:
        self._commit_soon(TopicPartition(self._topic, partition, inbox_offset))

    def note_checkpoint(self, partition: int, history_offset: int) -> None:
        note = _note_of(history_offset)
        self._commit_soon(TopicPartition(self._history, partition, history_offset, note))

    async def checkpoint(self, partition: int) -> int | None:
        answer: asyncio.Future[int | None] = self._loop.create_future()

        def ask() -> None:
            offset = self._committed_now(TopicPartition(self._history, partition))
            self._call(lambda: None if answer.done() else answer.set_result(offset))

        self._commands.put(ask)
        try:
            # Not wait_for: before Python 3.12 it loses a cancellation that meets the answer.
            async with asyncio.timeout(LEASE_TIMEOUT_S):
                return await answer
        except TimeoutError:
            return None

    def _commit_soon(self, place: TopicPartition) -> None:
        def commit() -> None:
            with contextlib.suppress(KafkaException, RuntimeError):
                self._consumer.commit(offsets=[place], asynchronous=True)

        self._commands.put(commit)

    def _committed_now(self, place: TopicPartition) -> int | None:
        try:
            (present,) = self._consumer.committed([place], timeout=LEASE_TIMEOUT_S)
        except (KafkaException, RuntimeError):
            return None
        is_mark = present.error is None and present.metadata == _note_of(present.offset)
        return present.offset if is_mark else None

    async def close(self, leave: bool = False) -> None:
        """A static member keeps its place, for its return within the session timeout.

        `leave` gives the shards to the others at once, for scaling in.
        """
        if self._beating is not None:
            self._beating.cancel()
        if not self._thread.is_alive():
            return
        timeout_s = CLOSE_TIMEOUT_S
        if leave:
            self._is_leaving = True
            timeout_s += LEAVE_TIMEOUT_S
        self._closing.set()
        await asyncio.to_thread(self._thread.join, timeout_s)

    # The thread

    def _work_to_the_end(self) -> None:
        """A member whose thread is gone would seem to be one until its poll interval is over."""
        try:
            self._work()
        except Exception:
            logger.exception("membership failed, the process ends itself")
            self._end_process(EXIT_WATCHDOG)

    def _work(self) -> None:
        self._consumer.subscribe(
            [self._topic],
            on_assign=self._assigned,
            on_revoke=self._revoked,
            on_lost=self._lost,
        )
        while not self._closing.is_set():
            self._run_commands()
            self._poll()
            self._watch()
        if self._is_leaving:
            self._leave()
        with contextlib.suppress(KafkaException, RuntimeError):
            # A static member that closes does not leave: its shards wait for its return.
            self._consumer.close()

    def _run_commands(self) -> None:
        with contextlib.suppress(queue.Empty):
            while True:
                self._commands.get_nowait()()

    def _poll(self) -> None:
        try:
            message = self._consumer.poll(POLL_S)
        except (KafkaException, RuntimeError) as error:
            self._trouble(error.args[0] if error.args else None)
            self._closing.wait(POLL_S)
            return
        if message is not None and message.error() is not None:
            self._trouble(message.error())

    def _leave(self) -> None:
        """Have the others get the shards now.

        The classic protocol sends no LeaveGroup for a static member, and this client has
        no call to remove one. So the member changes its subscription, which starts a
        rebalance that takes its partitions away. It has to be a topic that exists, or the
        client waits for it and joins nothing; the dlq is nobody else's in this group.
        """
        rebalanced = threading.Event()

        def assigned(consumer: Consumer, places: list[TopicPartition]) -> None:
            _assign_paused(consumer, places)
            rebalanced.set()  # the others have got theirs in the same generation

        with contextlib.suppress(KafkaException, RuntimeError):
            self._consumer.subscribe(
                [f"{self._topic}.dlq"], on_assign=assigned, on_revoke=self._revoked
            )
            deadline = time.monotonic() + LEAVE_TIMEOUT_S
            while not rebalanced.is_set() and time.monotonic() < deadline:
                self._poll()

    def _trouble(self, error: Any) -> None:
        is_over = isinstance(error, KafkaError) and (error.code() in FOR_GOOD or error.fatal())
        if is_over and not self._closing.is_set():
            self.fatal = error.str()
            logger.error("membership is lost for good", extra={"reason": self.fatal})
            self._report_lost()
            self._closing.set()
            # Only a fresh process can join again under this name (rule R15).
            self._end_process(EXIT_WATCHDOG)
        else:
            logger.warning("membership has trouble", extra={"reason": str(error)})

    def _watch(self) -> None:
        if time.monotonic() - self._beat_at > self._stale_loop_s and not self._closing.is_set():
            logger.error("the event loop stands still, the process ends itself")
            self._closing.set()  # poll no more: the group gives the shards to others
            self._end_process(EXIT_WATCHDOG)

    def _assigned(self, consumer: Consumer, places: list[TopicPartition]) -> None:
        _assign_paused(consumer, places)
        partitions = [place.partition for place in places]
        self._owned.update(partitions)
        self._tell(lambda listener: listener.assigned(partitions))

    def _revoked(self, consumer: Consumer, places: list[TopicPartition]) -> None:
        partitions = [place.partition for place in places]
        self._owned.difference_update(partitions)
        if not self._closing.is_set():
            drained = threading.Event()
            self._tell(lambda listener: listener.revoked(partitions, drained.set))
            drained.wait(REVOKE_TIMEOUT_S)
        consumer.incremental_unassign(places)

    def _lost(self, consumer: Consumer, places: list[TopicPartition]) -> None:
        partitions = [place.partition for place in places]
        self._owned.difference_update(partitions)
        self._tell(lambda listener: listener.lost(partitions))
        with contextlib.suppress(KafkaException):
            consumer.incremental_unassign(places)

    def _report_lost(self) -> None:
        partitions = sorted(self._owned)
        self._owned.clear()
        self._tell(lambda listener: listener.lost(partitions))

    def _commit_now(self, partition: int, offset: int | None) -> Lease:
        if partition not in self._owned:
            return Lease.LOST
        place = TopicPartition(self._topic, partition)
        try:
            if offset is None:
                # Any commit proves membership: repeat the one that is there.
                (present,) = self._consumer.committed([place], timeout=LEASE_TIMEOUT_S)
                offset = max(present.offset, 0)
            place.offset = offset
            (committed,) = self._consumer.commit(offsets=[place], asynchronous=False)
        except KafkaException as error:
            return _lease_of(error.args[0])
        except RuntimeError:
            return Lease.UNKNOWN
        return Lease.HELD if committed.error is None else _lease_of(committed.error)

    def _tell(self, tell: Callable[[MembershipListener], None]) -> None:
        listener = self._listener
        if listener is not None:
            self._call(lambda: tell(listener))

    def _call(self, call: Callable[[], None]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop was closed
            self._loop.call_soon_threadsafe(call)

    # The loop

    def _beat(self) -> None:
        self._beat_at = time.monotonic()
        self._beating = self._loop.call_later(HEARTBEAT_S, self._beat)


def _assign_paused(consumer: Consumer, places: list[TopicPartition]) -> None:
    consumer.incremental_assign(places)
    consumer.pause(places)


def _lease_of(error: Any) -> Lease:
    return Lease.LOST if error.code() in LOST else Lease.UNKNOWN


def _note_of(mark: int) -> str:
    """What is kept beside a checkpoint's mark, so that no other offset is taken for one."""
    return f"mark {mark}"
