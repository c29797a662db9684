"""The log in memory, for tests and for `stepfold.testing`: Kafka's promises and no more.

A record lands after the call that appended it, and its report comes later still, so that
everything that can come in between with Kafka can come in between here: a rival's
record, reading one's own record before its report, a report that never comes. The
methods of `MemoryAppender` and `MemoryCluster` that break things do what Kafka does
when it breaks in that way.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from stepfold.core.errors import KafkaError
from stepfold.journal.memory_group import MemoryGroup, MemoryMembership
from stepfold.journal.port import (
    AppTopics,
    Batch,
    BatchSink,
    Headers,
    LogRecord,
    Report,
    ReportSink,
    TopicFacts,
)

APP_TOPICS = ("inbox", "control", "history", "inbox.dlq")
BATCH_RECORDS_MAX = 500


@dataclass(slots=True)
class PartitionLog:
    """One partition: `low` is the offset of records[0]."""

    records: list[LogRecord] = field(default_factory=list[LogRecord])
    low: int = 0
    watchers: set[Callable[[], None]] = field(default_factory=set[Callable[[], None]])

    @property
    def end(self) -> int:
        return self.low + len(self.records)

    def wake(self) -> None:
        for watcher in list(self.watchers):
            watcher()


class MemoryCluster:
    """What all journals of a test share. `now_ms` gives the log append time."""

    def __init__(self, now_ms: Callable[[], int] | None = None) -> None:
        self._now_ms = now_ms or wall_clock_ms
        self._topics: dict[str, TopicFacts] = {}
        self._logs: dict[tuple[str, int], PartitionLog] = {}
        self._groups: dict[str, MemoryGroup] = {}

    def create_topic(self, name: str, partitions: int) -> TopicFacts:
        """Creating a topic again empties it and gives it a new id, as in Kafka."""
        facts = TopicFacts(name, uuid.uuid4().hex[:22], partitions)
        self._topics[name] = facts
        for partition in range(partitions):
            self._logs[name, partition] = PartitionLog()
        return facts

    def create_app(self, app: str, partitions: int) -> AppTopics:
        for name in APP_TOPICS:
            self.create_topic(f"{app}.{name}", partitions)
        self._groups[app] = MemoryGroup(partitions)
        return self.topics(app)

    def topics(self, app: str) -> AppTopics:
        names = [f"{app}.{name}" for name in APP_TOPICS]
        missing = [name for name in names if name not in self._topics]
        if missing:
            raise KafkaError(
                f"app {app!r} has no topics {', '.join(missing)}; create_app({app!r}, …) first"
            )
        inbox, control, history, dlq = (self._topics[name] for name in names)
        return AppTopics(inbox, control, history, dlq, unsafe=False)

    def facts(self, topic: str) -> TopicFacts | None:
        return self._topics.get(topic)

    def append(
        self, topic: str, partition: int, key: bytes | None, value: bytes | None, headers: Headers
    ) -> LogRecord:
        """Land a record at once, as a producer of somebody else's would."""
        log = self._logs[topic, partition]
        now = self._now_ms()
        record = LogRecord(topic, partition, log.end, 0, now, key or None, value, tuple(headers))
        log.records.append(record)
        log.wake()
        return record

    def records(self, topic: str, partition: int) -> list[LogRecord]:
        return list(self._logs[topic, partition].records)

    def delete_records(self, topic: str, partition: int, before_offset: int) -> None:
        log = self._logs[topic, partition]
        before_offset = min(before_offset, log.end)
        if before_offset > log.low:
            del log.records[: before_offset - log.low]
            log.low = before_offset
            log.wake()

    def fence(self, app: str, member: str, *, told: bool = True) -> None:
        """The group gives the member's place away; without `told` it does not hear of it."""
        self.group(app).remove(member, told=told)

    def lose_session(self, app: str, member: str) -> None:
        """The member loses all partitions and joins again at once."""
        group = self.group(app)
        membership = group.members[member]
        group.remove(member, told=True)
        group.join(membership)

    def move(self, app: str, partition: int, member: str) -> None:
        """Have the group assign the partition to this member from now on."""
        self.group(app).pin(partition, member)

    def has_partition(self, topic: str, partition: int) -> bool:
        return (topic, partition) in self._logs

    def log(self, topic: str, partition: int) -> PartitionLog:
        return self._logs[topic, partition]

    def group(self, app: str) -> MemoryGroup:
        return self._groups[app]


def wall_clock_ms() -> int:
    return time.time_ns() // 1_000_000


class MemoryJournal:
    """One process's view of the cluster. A Journal."""

    def __init__(
        self,
        cluster: MemoryCluster,
        member: str,
        loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        self.cluster = cluster
        self.member = member
        self._loop = loop or asyncio.get_running_loop()
        self.appender = MemoryAppender(cluster, self._loop)
        self.reader = MemoryReader(cluster, self._loop)
        self.memberships: list[MemoryMembership] = []

    def membership(self, app: str) -> MemoryMembership:
        membership = MemoryMembership(self.cluster.group(app), self.member, self._loop)
        self.memberships.append(membership)
        return membership

    async def topics(self, app: str) -> AppTopics:
        return self.cluster.topics(app)

    async def close(self) -> None:
        for membership in self.memberships:
            await membership.close()
        self.reader.close_all()

    def kill(self, *, lands: bool = False) -> None:
        """End as by kill -9: nothing is reported, delivered or called any more."""
        self.appender.cut(lands=lands)
        self.reader.close_all()
        for membership in self.memberships:
            membership.group.remove(self.member, told=False)


@dataclass(slots=True)
class _Pending:
    topic: str
    partition: int
    key: bytes
    value: bytes
    headers: Headers
    on_report: ReportSink
    due_at: float
    error: str | None = None
    lands: bool = True
    report: Report | None = None


class MemoryAppender:
    """An Appender; first in, first out over all partitions."""

    def __init__(self, cluster: MemoryCluster, loop: asyncio.AbstractEventLoop) -> None:
        self.delay_ms = 0
        self._cluster = cluster
        self._loop = loop
        self._unlanded: deque[_Pending] = deque()
        self._unreported: deque[_Pending] = deque()
        self._failing: deque[tuple[str, bool]] = deque()
        self._shift = 0
        self._is_cut = False
        self._cut_lands = False
        self._is_scheduled = False

    def append(
        self,
        topic: str,
        partition: int,
        key: bytes,
        value: bytes,
        headers: Headers,
        on_report: ReportSink,
    ) -> None:
        due_at = self._loop.time() + self.delay_ms / 1000
        pending = _Pending(topic, partition, key, value, list(headers), on_report, due_at)
        if self._failing:
            pending.error, pending.lands = self._failing.popleft()
        elif not self._cluster.has_partition(topic, partition):
            pending.error, pending.lands = f"there is no partition {topic}/{partition}", False
        self._unlanded.append(pending)
        self._schedule()

    def fail_next(self, error: str = "made to fail", *, lands: bool = False) -> None:
        """The next append is reported with this error, whether its record lands or not."""
        self._failing.append((error, lands))

    def misreport_next(self, shift: int) -> None:
        """The next append lands, and is reported as so far from where it did."""
        self._shift = shift

    def cut(self, *, lands: bool = False) -> None:
        """No report comes until `mend`; records of this time land at once, or at `mend`."""
        self._is_cut = True
        self._cut_lands = lands

    def mend(self) -> None:
        self._is_cut = False
        self._schedule()

    def fail_client(self, error: str = "fatal", *, lands: bool = False) -> None:
        """A fatal client error: every outstanding append is reported with it."""
        for pending in self._unlanded:
            if lands and pending.lands:
                self._land(pending)
        for pending in (*self._unreported, *self._unlanded):
            self._loop.call_soon(pending.on_report, Report(None, 0, error))
        self._unlanded.clear()
        self._unreported.clear()

    def _schedule(self) -> None:
        if self._is_scheduled or not (self._unlanded or self._unreported):
            return
        self._is_scheduled = True
        delay_s = 0.0
        if self._unlanded and not self._unreported:
            delay_s = self._unlanded[0].due_at - self._loop.time()
        if delay_s > 0:
            self._loop.call_later(delay_s, self._turn)
        else:
            self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        """Report what landed in the turn before, then land what is due."""
        self._is_scheduled = False
        landed = [] if self._is_cut else list(self._unreported)
        if not self._is_cut:
            self._unreported.clear()
        now = self._loop.time()
        while self._unlanded and self._unlanded[0].due_at <= now:
            if self._is_cut and not self._cut_lands:
                break
            pending = self._unlanded.popleft()
            self._land(pending)
            self._unreported.append(pending)
        for pending in landed:
            self._loop.call_soon(pending.on_report, pending.report or Report(None, 0, "no report"))
        if not self._is_cut or (self._cut_lands and self._unlanded):
            self._schedule()

    def _land(self, pending: _Pending) -> None:
        if pending.lands:
            landed = self._cluster.append(
                pending.topic, pending.partition, pending.key, pending.value, pending.headers
            )
            pending.report = Report(landed.offset + self._shift, landed.timestamp, None)
            self._shift = 0
        if pending.error is not None:
            pending.report = Report(None, 0, pending.error)


class _Reading:
    """One open partition. It delivers while it is open and not paused."""

    def __init__(
        self, log: PartitionLog, position: int, sink: BatchSink, loop: asyncio.AbstractEventLoop
    ) -> None:
        self.is_paused = False
        self.position = position
        self.sink = sink
        self._log = log
        self._loop = loop
        self._is_open = True
        self._is_scheduled = False
        self._end_told_at = -1
        log.watchers.add(self.wake)
        self.wake()

    def close(self) -> None:
        self._is_open = False
        self._log.watchers.discard(self.wake)

    def wake(self) -> None:
        if not self._is_scheduled:
            self._is_scheduled = True
            self._loop.call_soon(self._deliver)

    def _deliver(self) -> None:
        self._is_scheduled = False
        if not self._is_open or self.is_paused:
            return
        low, end = self._log.low, self._log.end
        if not low <= self.position <= end:
            self.close()
            nearest = low if self.position < low else end
            why = f"offset {self.position} is out of range: the log holds {low} up to {end}"
            self.sink(Batch((), False, nearest, why))
            return
        first = self.position - low
        records = self._log.records[first : first + BATCH_RECORDS_MAX]
        at_end = self.position + len(records) == end
        if not records and self._end_told_at == end:
            return
        self.position += len(records)
        if at_end:
            self._end_told_at = end
        else:
            self.wake()
        self.sink(Batch(records, at_end, self.position))


class MemoryReader:
    """A Reader."""

    def __init__(self, cluster: MemoryCluster, loop: asyncio.AbstractEventLoop) -> None:
        self._cluster = cluster
        self._loop = loop
        self._open: dict[tuple[str, int], _Reading] = {}

    def open(self, topic: str, partition: int, offset: int, sink: BatchSink) -> None:
        self.close(topic, partition)
        if not self._cluster.has_partition(topic, partition):
            gone = Batch((), False, offset, f"there is no partition {topic}/{partition}")
            self._loop.call_soon(sink, gone)
            return
        log = self._cluster.log(topic, partition)
        self._open[topic, partition] = _Reading(log, offset, sink, self._loop)

    def close(self, topic: str, partition: int) -> None:
        reading = self._open.pop((topic, partition), None)
        if reading is not None:
            reading.close()

    def pause(self, topic: str, partition: int) -> None:
        reading = self._open.get((topic, partition))
        if reading is not None:
            reading.is_paused = True

    def resume(self, topic: str, partition: int) -> None:
        reading = self._open.get((topic, partition))
        if reading is not None:
            reading.is_paused = False
            reading.wake()

    def break_off(self, topic: str, partition: int, why: str) -> None:
        """Reading ends with this error, as where a topic is gone or not for this process."""
        reading = self._open.pop((topic, partition))
        reading.close()
        self._loop.call_soon(reading.sink, Batch((), False, reading.position, why))

    def close_all(self) -> None:
        for topic, partition in list(self._open):
            self.close(topic, partition)
