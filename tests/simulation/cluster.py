"""The brokers: partitions, their leaders and clocks, and the group coordinator.

What has landed here is the truth that the promises are judged by. A record that landed
stays, except in the one scenario that loses acknowledged records (an unclean election),
which the engine must notice.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field

from stepfold.core.errors import KafkaError
from stepfold.journal.memory_group import MemoryGroup
from stepfold.journal.port import AppTopics, Headers, LogRecord, TopicFacts
from tests.simulation.stage import Stage
from tests.simulation.universe import Universe
from tests.simulation.weather import Storm
from tests.simulation.wording import told

EPOCH_MS = 1_700_000_000_000
"""What the brokers' clocks say when the universe begins."""
BROKER_SKEW_MS_MAX = 5
APP_TOPICS = ("inbox", "control", "history", "inbox.dlq")


@dataclass(slots=True)
class SimLog:
    """One partition. `landed_us` runs beside `records`; `low` is the offset of the first."""

    topic: str
    partition: int
    skew_ms: int
    records: list[LogRecord] = field(default_factory=list[LogRecord])
    landed_us: list[int] = field(default_factory=list[int])
    low: int = 0
    leader_epoch: int = 0
    is_stalled: bool = False
    """It has no leader now: nothing lands and nothing is read."""
    watchers: dict[int, Callable[[], None]] = field(default_factory=dict[int, Callable[[], None]])
    when_elected: list[Callable[[], None]] = field(default_factory=list[Callable[[], None]])

    @property
    def end(self) -> int:
        return self.low + len(self.records)

    def wake(self) -> None:
        for watcher in list(self.watchers.values()):
            watcher()


class SimCluster:
    def __init__(self, universe: Universe, stage: Stage, storm: Storm) -> None:
        self.universe = universe
        self.stage = stage
        self.storm = storm
        self._topics: dict[str, TopicFacts] = {}
        self._logs: dict[tuple[str, int], SimLog] = {}
        self._groups: dict[str, MemoryGroup] = {}
        self._numbers = 0
        self._on_landing: list[Callable[[LogRecord], None]] = []

    def create_app(self, app: str, partitions: int, dice: random.Random) -> AppTopics:
        for name in APP_TOPICS:
            topic = f"{app}.{name}"
            self._topics[topic] = TopicFacts(topic, f"id-of-{topic}", partitions)
            for partition in range(partitions):
                skew = dice.randint(0, BROKER_SKEW_MS_MAX)
                self._logs[topic, partition] = SimLog(topic, partition, skew)
        self._groups[app] = MemoryGroup(partitions)
        return self.topics(app)

    def topics(self, app: str) -> AppTopics:
        names = [f"{app}.{name}" for name in APP_TOPICS]
        missing = [name for name in names if name not in self._topics]
        if missing:
            raise KafkaError(f"app {app!r} has no topics {', '.join(missing)}")
        inbox, control, history, dlq = (self._topics[name] for name in names)
        return AppTopics(inbox, control, history, dlq, unsafe=False)

    def group(self, app: str) -> MemoryGroup:
        return self._groups[app]

    def log(self, topic: str, partition: int) -> SimLog | None:
        return self._logs.get((topic, partition))

    def logs(self) -> list[SimLog]:
        return list(self._logs.values())

    def number(self) -> int:
        """A name for something, never used twice."""
        self._numbers += 1
        return self._numbers

    def on_landing(self, watch: Callable[[LogRecord], None]) -> None:
        """Be told of every record that lands."""
        self._on_landing.append(watch)

    def land(
        self,
        log: SimLog,
        writer: str,
        key: bytes | None,
        value: bytes | None,
        headers: Headers,
    ) -> LogRecord:
        now_ms = EPOCH_MS + self.universe.now_us // 1_000 + log.skew_ms
        record = LogRecord(
            log.topic, log.partition, log.end, log.leader_epoch, now_ms, key or None, value,
            tuple(headers),
        )  # fmt: skip
        log.records.append(record)
        log.landed_us.append(self.universe.now_us)
        if self.stage.lines is not None:
            place = f"{log.topic}/{log.partition}@{record.offset}"
            self.stage.note(writer, "-> %s %s", place, told(record))
        log.wake()
        for watch in self._on_landing:
            watch(record)
        return record

    def stall(self, log: SimLog) -> None:
        """Its leader is gone; until `elect` nobody leads it."""
        log.is_stalled = True

    def elect(self, log: SimLog) -> None:
        log.is_stalled = False
        log.leader_epoch += 1
        waiting, log.when_elected = log.when_elected, []
        for call in waiting:
            call()
        log.wake()

    def truncate(self, log: SimLog, records: int) -> int:
        """An unclean election: the last records are gone, though they were acknowledged."""
        lost = min(records, len(log.records))
        if lost:
            del log.records[-lost:]
            del log.landed_us[-lost:]
        log.leader_epoch += 1
        log.wake()
        return lost

    def delete_records(self, log: SimLog, before: int) -> None:
        count = min(before, log.end) - log.low
        if count > 0:
            del log.records[:count]
            del log.landed_us[:count]
            log.low += count
            log.wake()
