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
NOT_OURS = frozenset(
    {KafkaError.FENCED_INSTANCE_ID, KafkaError.UNKNOWN_MEMBER_ID, KafkaError._FENCED}
)


def group_of(app: str) -> str:
    """The consumer group of an app's workers."""
    return f"stepfold.{app}"


class KafkaMembership:
    def __init__(
        self, config: Mapping[str, Any], topic: str, loop: asyncio.AbstractEventLoop
    ) -> None:
        self._consumer = Consumer(dict(config))
        self._topic = topic
        self._loop = loop
        self._listener: MembershipListener | None = None
        self._commands: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._closing = threading.Event()
        self._owned: set[int] = set()
        self._beat_at = time.monotonic()
        self._beating: asyncio.Handle | None = None
        self._thread = threading.Thread(target=self._work, name="stepfold-member", daemon=True)

    def start(self, listener: MembershipListener) -> None:
        self._listener = listener
        self._beat()
        self._thread.start()

    async def check_lease(self, partition: int, inbox_offset: int | None) -> Lease:
        answer: asyncio.Future[Lease] = self._loop.create_future()

        def ask() -> None:
            lease = self._commit_now(partition, inbox_offset or 0)
            self._call(lambda: None if answer.done() else answer.set_result(lease))

        self._commands.put(ask)
        try:
            return await asyncio.wait_for(answer, LEASE_TIMEOUT_S * 2)
        except TimeoutError:
            return Lease.UNKNOWN

    def commit(self, partition: int, inbox_offset: int) -> None:
        place = TopicPartition(self._topic, partition, inbox_offset)

        def commit() -> None:
            with contextlib.suppress(KafkaException, RuntimeError):
                self._consumer.commit(offsets=[place], asynchronous=True)

        self._commands.put(commit)

    async def close(self) -> None:
        self._closing.set()
        if self._beating is not None:
            self._beating.cancel()
        if self._thread.is_alive():
            await asyncio.to_thread(self._thread.join, LEASE_TIMEOUT_S)

    # The thread

    def _work(self) -> None:
        self._consumer.subscribe(
            [self._topic],
            on_assign=self._assigned,
            on_revoke=self._revoked,
            on_lost=self._lost,
        )
        while not self._closing.is_set():
            with contextlib.suppress(queue.Empty):
                while True:
                    self._commands.get_nowait()()
            try:
                message = self._consumer.poll(POLL_S)
            except (KafkaException, RuntimeError) as error:
                self._trouble(error.args[0] if error.args else None)
                continue
            if message is not None and message.error() is not None:
                self._trouble(message.error())
            self._watch()
        # A static member that closes does not leave: its shards wait for its return.
        self._consumer.close()

    def _trouble(self, error: Any) -> None:
        code = error.code() if isinstance(error, KafkaError) else None
        if code in NOT_OURS or (isinstance(error, KafkaError) and error.fatal()):
            logger.error("membership is lost for good", extra={"reason": str(error)})
            self._report_lost()
            self._closing.set()
            # Only a fresh process can join again under this name (rule R15).
            self._call(lambda: os._exit(EXIT_WATCHDOG))
        else:
            logger.warning("membership has trouble", extra={"reason": str(error)})

    def _watch(self) -> None:
        if time.monotonic() - self._beat_at > STALE_LOOP_S:
            logger.error("the event loop stands still, the process ends itself")
            os._exit(EXIT_WATCHDOG)

    def _assigned(self, consumer: Consumer, places: list[TopicPartition]) -> None:
        consumer.incremental_assign(places)
        consumer.pause(places)
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

    def _commit_now(self, partition: int, offset: int) -> Lease:
        if partition not in self._owned:
            return Lease.LOST
        place = TopicPartition(self._topic, partition, offset)
        try:
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


def _lease_of(error: Any) -> Lease:
    return Lease.LOST if error.code() in NOT_OURS else Lease.UNKNOWN
