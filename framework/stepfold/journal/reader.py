"""The process's one manual consumer, owned by one thread.

Any call into a consumer waits for the poll that another thread has running, so one
thread does all of it: short polls, and between them the commands that the loop has
queued. Batches go to the loop; each open partition has a generation, so that nothing
is delivered that was fetched before it was closed or moved.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import queue
import threading
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from stepfold.journal.port import Batch, BatchSink, LogRecord

logger = logging.getLogger(__name__)

POLL_S = 0.02
RECORDS_PER_POLL_MAX = 2_000
UNTAKEN_BATCHES_MAX = 8
"""Batches that the loop has not taken yet, before the thread waits for it."""
LEADER_EPOCH_UNKNOWN = -1
REQUEST_TIMEOUT_S = 10.0


@dataclass(slots=True)
class _Open:
    generation: int
    sink: BatchSink


class KafkaReader:
    def __init__(self, config: Mapping[str, Any], loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._consumer = Consumer(dict(config))
        self._open: dict[tuple[str, int], _Open] = {}
        self._generation = 0
        self._commands: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._assigned: dict[tuple[str, int], int] = {}  # the thread's: to generations
        self._room = threading.Semaphore(UNTAKEN_BATCHES_MAX)
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._work, name="stepfold-reader", daemon=True)
        self._thread.start()

    def open(self, topic: str, partition: int, offset: int, sink: BatchSink) -> None:
        self._generation += 1
        generation = self._generation
        self._open[topic, partition] = _Open(generation, sink)
        self._commands.put(lambda: self._assign(topic, partition, offset, generation))

    def close(self, topic: str, partition: int) -> None:
        if self._open.pop((topic, partition), None) is not None:
            self._commands.put(lambda: self._unassign(topic, partition))

    def pause(self, topic: str, partition: int) -> None:
        place = TopicPartition(topic, partition)
        self._commands.put(lambda: self._quietly(lambda: self._consumer.pause([place])))

    def resume(self, topic: str, partition: int) -> None:
        place = TopicPartition(topic, partition)
        self._commands.put(lambda: self._quietly(lambda: self._consumer.resume([place])))

    def shut_down(self) -> None:
        """Blocks for at most a poll and the consumer's closing; call it in a thread."""
        self._closing.set()
        self._room.release()
        self._thread.join(REQUEST_TIMEOUT_S)

    # The thread

    def _work(self) -> None:
        while not self._closing.is_set():
            with contextlib.suppress(queue.Empty):
                while True:
                    self._commands.get_nowait()()
            if not self._assigned:
                with contextlib.suppress(queue.Empty):
                    self._commands.get(timeout=POLL_S)()
                continue
            try:
                messages = self._consumer.consume(RECORDS_PER_POLL_MAX, POLL_S)
            except (KafkaException, RuntimeError) as error:
                logger.warning("reader failed to poll", extra={"reason": str(error)})
                continue
            if messages:
                self._deliver(messages)
        self._consumer.close()

    def _assign(self, topic: str, partition: int, offset: int, generation: int) -> None:
        self._unassign(topic, partition)
        self._assigned[topic, partition] = generation
        self._quietly(
            lambda: self._consumer.incremental_assign([TopicPartition(topic, partition, offset)])
        )

    def _unassign(self, topic: str, partition: int) -> None:
        if self._assigned.pop((topic, partition), None) is not None:
            place = TopicPartition(topic, partition)
            self._quietly(lambda: self._consumer.incremental_unassign([place]))

    def _quietly(self, call: Callable[[], None]) -> None:
        try:
            call()
        except (KafkaException, RuntimeError) as error:
            logger.warning("reader refused a command", extra={"reason": str(error)})

    def _deliver(self, messages: list[Any]) -> None:
        records: defaultdict[tuple[str, int], list[LogRecord]] = defaultdict(list)
        ends: dict[tuple[str, int], int] = {}
        for message in messages:
            place = (message.topic(), message.partition())
            error = message.error()
            if error is None:
                records[place].append(_record_of(message))
                ends.pop(place, None)
            elif error.code() == KafkaError._PARTITION_EOF:
                ends[place] = message.offset()
            elif error.code() == KafkaError._AUTO_OFFSET_RESET or not error.retriable():
                self._report_broken(place, error)
        for place in {*records, *ends}:
            some = records.get(place, [])
            position = some[-1].offset + 1 if some else ends[place]
            self._hand_over(place, Batch(some, place in ends, position))

    def _report_broken(self, place: tuple[str, int], error: Any) -> None:
        if place[0] is None or place not in self._assigned:
            logger.warning("reader has trouble", extra={"reason": str(error)})
            return
        low = 0
        with contextlib.suppress(KafkaException):
            low, _ = self._consumer.get_watermark_offsets(
                TopicPartition(*place), timeout=REQUEST_TIMEOUT_S
            )
        self._hand_over(place, Batch([], False, low, error.str()))

    def _hand_over(self, place: tuple[str, int], batch: Batch) -> None:
        generation = self._assigned.get(place)
        if generation is None:
            return
        self._room.acquire()
        if not self._closing.is_set():
            with contextlib.suppress(RuntimeError):  # the loop was closed
                self._loop.call_soon_threadsafe(self._take, place, generation, batch)

    # The loop

    def _take(self, place: tuple[str, int], generation: int, batch: Batch) -> None:
        self._room.release()
        opened = self._open.get(place)
        if opened is not None and opened.generation == generation:
            opened.sink(batch)


def _record_of(message: Any) -> LogRecord:
    leader_epoch = message.leader_epoch()
    return LogRecord(
        message.topic(),
        message.partition(),
        message.offset(),
        LEADER_EPOCH_UNKNOWN if leader_epoch is None else leader_epoch,
        message.timestamp()[1],
        message.key(),
        message.value(),
        message.headers() or (),
    )
