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
import time
from collections import defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeAlias

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from stepfold.journal.port import UNREADABLE_HEADERS, Batch, BatchSink, LogRecord

logger = logging.getLogger(__name__)

Place: TypeAlias = tuple[str, int]

POLL_S = 0.02
"""A record ends a poll at once; this is only how long a command may have to wait."""
IDLE_S = 1.0
"""Between looks at nothing, while no partition is open; a command ends the wait."""
RECORDS_PER_POLL_MAX = 1_000
UNTAKEN_BATCHES_MAX = 8
"""Batches that the loop has not taken yet, before the thread waits for it."""
ROOM_CHECK_S = 0.5
LEARN_TIMEOUT_S = 1.0
TROUBLE_INTERVAL_S = 30.0
LEADER_EPOCH_UNKNOWN = -1
REQUEST_TIMEOUT_S = 10.0

BROKEN = frozenset(
    {
        KafkaError._AUTO_OFFSET_RESET,
        KafkaError.OFFSET_OUT_OF_RANGE,
        KafkaError.UNKNOWN_TOPIC_OR_PART,
        KafkaError._UNKNOWN_TOPIC,
        KafkaError._UNKNOWN_PARTITION,
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError._FATAL,
    }
)
"""After these a partition cannot be read on; anything else the client tries again itself."""


@dataclass(slots=True)
class _Open:
    """The loop's side of an open partition."""

    place: Place
    generation: int
    sink: BatchSink
    is_paused: bool = False
    held: deque[Batch] = field(default_factory=deque[Batch])


@dataclass(slots=True)
class _Assigned:
    """The thread's side of it; position is the offset of the next record."""

    generation: int
    position: int


class KafkaReader:
    """A Reader."""

    def __init__(self, config: Mapping[str, Any], loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._consumer = Consumer({**config, "error_cb": self._note_trouble})
        self._trouble_told_at = 0.0
        self._open: dict[Place, _Open] = {}
        self._generation = 0
        self._commands: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._assigned: dict[Place, _Assigned] = {}
        self._known_topics: set[str] = set()
        self._room = threading.Semaphore(UNTAKEN_BATCHES_MAX)
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._work, name="stepfold-reader", daemon=True)
        self._thread.start()

    def open(self, topic: str, partition: int, offset: int, sink: BatchSink) -> None:
        self._generation += 1
        place, assigned = (topic, partition), _Assigned(self._generation, offset)
        self._open[place] = _Open(place, self._generation, sink)
        self._commands.put(lambda: self._assign(place, assigned))

    def close(self, topic: str, partition: int) -> None:
        if self._open.pop((topic, partition), None) is not None:
            self._commands.put(lambda: self._unassign((topic, partition)))

    def pause(self, topic: str, partition: int) -> None:
        opened = self._open.get((topic, partition))
        if opened is not None and not opened.is_paused:
            opened.is_paused = True
            generation = opened.generation
            self._commands.put(lambda: self._set_paused((topic, partition), generation, True))

    def resume(self, topic: str, partition: int) -> None:
        opened = self._open.get((topic, partition))
        if opened is not None and opened.is_paused:
            opened.is_paused = False
            generation = opened.generation
            self._commands.put(lambda: self._set_paused((topic, partition), generation, False))
            self._loop.call_soon(self._give_held, opened)

    def shut_down(self) -> None:
        """Blocks for at most a poll and the consumer's closing; call it in a thread."""
        self._closing.set()
        self._commands.put(lambda: None)
        self._thread.join(REQUEST_TIMEOUT_S)

    # The thread

    def _work(self) -> None:
        while not self._closing.is_set():
            self._run_commands()
            if not self._assigned:
                with contextlib.suppress(queue.Empty):
                    self._commands.get(timeout=IDLE_S)()
                continue
            try:
                # consume() alone would wait out its timeout for a full batch.
                first = self._consumer.poll(POLL_S)
                if first is None:
                    continue
                more = self._consumer.consume(RECORDS_PER_POLL_MAX, 0)
            except (KafkaException, RuntimeError) as error:
                logger.warning("reader failed to poll", extra={"reason": str(error)})
                self._closing.wait(POLL_S)
                continue
            try:
                self._deliver([first, *more])
            except Exception as error:
                logger.exception("reader failed, its partitions are broken off")
                self._break_off(f"{type(error).__name__}: {error}")
        self._consumer.close()

    def _break_off(self, why: str) -> None:
        """What no rule foresees: whoever reads here has to know that something is missing."""
        for place, assigned in list(self._assigned.items()):
            self._hand_over(place, Batch((), False, assigned.position, f"reading failed: {why}"))
            self._unassign(place)

    def _run_commands(self) -> None:
        with contextlib.suppress(queue.Empty):
            while True:
                self._commands.get_nowait()()

    def _assign(self, place: Place, assigned: _Assigned) -> None:
        self._unassign(place)
        self._assigned[place] = assigned
        self._learn(place[0])
        to = TopicPartition(*place, assigned.position)
        self._quietly(lambda: self._consumer.incremental_assign([to]))
        # The client remembers a pause beyond the assignment that it was made in.
        self._quietly(lambda: self._consumer.resume([to]))

    def _learn(self, topic: str) -> None:
        """Ask who leads a topic's partitions before it is read for the first time.

        Left to itself the client looks for new topics once a second, which was most of the
        time from a claim to the first trigger taken.
        """
        if topic not in self._known_topics:
            with contextlib.suppress(KafkaException, RuntimeError):
                self._consumer.list_topics(topic, timeout=LEARN_TIMEOUT_S)
                self._known_topics.add(topic)

    def _unassign(self, place: Place) -> None:
        if self._assigned.pop(place, None) is not None:
            self._quietly(lambda: self._consumer.incremental_unassign([TopicPartition(*place)]))

    def _set_paused(self, place: Place, generation: int, paused: bool) -> None:
        assigned = self._assigned.get(place)
        if assigned is None or assigned.generation != generation:
            return
        change = self._consumer.pause if paused else self._consumer.resume
        self._quietly(lambda: change([TopicPartition(*place)]))

    def _note_trouble(self, error: KafkaError) -> None:
        """The client says it for each try to connect: once in a while is enough."""
        now = time.monotonic()
        if error.code() == KafkaError._ALL_BROKERS_DOWN and now > self._trouble_told_at:
            self._trouble_told_at = now + TROUBLE_INTERVAL_S
            logger.warning("no broker answers", extra={"reason": error.str()})

    def _quietly(self, call: Callable[[], None]) -> None:
        try:
            call()
        except (KafkaException, RuntimeError) as error:
            logger.warning("reader refused a command", extra={"reason": str(error)})

    def _deliver(self, messages: list[Any]) -> None:
        records: defaultdict[Place, list[LogRecord]] = defaultdict(list)
        ends: dict[Place, int] = {}
        broken: dict[Place, Any] = {}
        for message in messages:
            place = (message.topic(), message.partition())
            error = message.error()
            if error is None:
                records[place].append(_record_of(message))
                ends.pop(place, None)
            elif error.code() == KafkaError._PARTITION_EOF:
                ends[place] = message.offset()
            elif place in self._assigned and error.code() in BROKEN:
                broken[place] = error
            else:
                logger.warning("reader has trouble", extra={"reason": error.str()})
        for place in {**records, **ends}:
            some = records.get(place, [])
            position = ends[place] if place in ends else some[-1].offset + 1
            self._hand_over(place, Batch(some, place in ends, position))
        for place, error in broken.items():
            self._report_broken(place, error)

    def _report_broken(self, place: Place, error: Any) -> None:
        """Say where reading could go on; the partition is open no more after that."""
        assigned = self._assigned.get(place)
        if assigned is None:
            return
        asked = assigned.position
        nearest, why = asked, error.str()
        if error.code() in (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE):
            try:
                low, end = self._consumer.get_watermark_offsets(
                    TopicPartition(*place), timeout=REQUEST_TIMEOUT_S
                )
            except KafkaException:
                self._assign(place, assigned)  # not known yet what is there: ask again
                return
            if low <= asked <= end:
                self._closing.wait(POLL_S)  # nothing is missing: it was about something else
                self._assign(place, assigned)
                return
            nearest = low if asked < low else end
            why = f"offset {asked} is out of range: the log holds {low} up to {end}"
        self._hand_over(place, Batch((), False, nearest, why))
        self._unassign(place)

    def _hand_over(self, place: Place, batch: Batch) -> None:
        assigned = self._assigned.get(place)
        if assigned is None:
            return
        while not self._room.acquire(timeout=ROOM_CHECK_S):
            if self._closing.is_set():
                return
        assigned.position = batch.position
        with contextlib.suppress(RuntimeError):  # the loop was closed
            self._loop.call_soon_threadsafe(self._take, place, assigned.generation, batch)

    # The loop

    def _take(self, place: Place, generation: int, batch: Batch) -> None:
        self._room.release()
        opened = self._open.get(place)
        if opened is None or opened.generation != generation:
            return
        opened.held.append(batch)  # behind what a pause has held back
        self._give_held(opened)

    def _give_held(self, opened: _Open) -> None:
        while opened.held and not opened.is_paused and self._open.get(opened.place) is opened:
            batch = opened.held.popleft()
            if batch.error is not None:
                del self._open[opened.place]
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
        headers_of(message),
    )


def headers_of(message: Any) -> Sequence[tuple[str, bytes]]:
    """UNREADABLE_HEADERS where a name is not UTF-8, which programs in other languages may write.

    The client then gives a list with a hole in it, beside its exception, and a plain call would
    let the list through: looking into it ends the process. A call by way of a partial does not.
    """
    try:
        return partial(message.headers)() or ()
    except (SystemError, UnicodeDecodeError):
        return UNREADABLE_HEADERS
