"""A producer whose records are delayed, doubled, dropped, and landed after their writer died.

What it keeps to is what librdkafka keeps to: per producer and partition, records land in
the order of the calls, and each append is reported once. All else that was ever seen of it
may happen here: a gap where a record was given up, a record twice, a report that is late,
lacks the offset or names a wrong one, an error for a record that landed, a fatal error.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field
from enum import Enum

from stepfold.journal.port import Headers, LogRecord, Report, ReportSink
from tests.simulation.cluster import SimCluster, SimLog
from tests.simulation.link import Link


class _Fate(Enum):
    LANDS = "lands"
    LANDS_TWICE = "duplicate"
    DROPPED = "drop"
    LANDS_WITH_ERROR = "error_though_landed"
    NO_OFFSET = "no_offset"
    WRONG_OFFSET = "bogus_offset"


FAULTS = tuple(fate for fate in _Fate if fate is not _Fate.LANDS)
BOGUS_OFFSETS = 3
"""librdkafka's are 0, 1 and 2: it counts on from a base of -1 that stands for "unknown"."""


@dataclass(slots=True, eq=False)
class _Pending:
    key: bytes
    value: bytes
    headers: Headers
    on_report: ReportSink
    fate: _Fate
    due_us: int


@dataclass(slots=True, eq=False)
class _Lane:
    """What one producer has under way to one partition."""

    log: SimLog
    queue: deque[_Pending] = field(default_factory=deque[_Pending])
    last_due_us: int = 0
    last_report_us: int = 0
    is_ghost: bool = False
    """Its producer is gone; what is in the queue is on the network and lands by itself."""
    kernel_has: int = 0
    """Of a frozen process: records that the kernel sends on nevertheless."""
    is_pump_due: bool = False


class SimAppender:
    """An Appender."""

    def __init__(self, cluster: SimCluster, link: Link, loop: asyncio.AbstractEventLoop) -> None:
        self._cluster = cluster
        self._universe = cluster.universe
        self._storm = cluster.storm
        self._link = link
        self._loop = loop
        self._lanes: dict[tuple[str, int], _Lane] = {}
        self._outstanding: dict[_Pending, None] = {}

    def append(
        self,
        topic: str,
        partition: int,
        key: bytes,
        value: bytes,
        headers: Headers,
        on_report: ReportSink,
    ) -> None:
        if self._link.is_dead:
            return
        log = self._cluster.log(topic, partition)
        if log is None:
            refused = Report(None, 0, f"there is no partition {topic}/{partition}")
            self._loop.call_soon(on_report, refused)
            return
        lane = self._lanes.setdefault((topic, partition), _Lane(log))
        due_us = max(lane.last_due_us, self._universe.now_us + self._storm.latency_us())
        lane.last_due_us = due_us
        pending = _Pending(key, value, [*headers], on_report, self._fate(), due_us)
        self._outstanding[pending] = None
        lane.queue.append(pending)
        self._pump_at(lane, due_us)

    # What a fault does

    def fail_client(self, error: str) -> None:
        """A fatal client error: all that is outstanding is uncertain, and a new client follows."""
        outstanding, self._outstanding = self._outstanding, {}
        for pending in outstanding:
            self._loop.call_soon(pending.on_report, Report(None, 0, error))
        self._leave_ghosts()

    def die(self) -> None:
        self._outstanding.clear()
        self._leave_ghosts()

    def freeze(self) -> None:
        for lane in self._lanes.values():
            lane.kernel_has = self._storm.dice.randint(0, len(lane.queue))

    def _leave_ghosts(self) -> None:
        """Of what was under way the first few records may land, at any later time."""
        storm = self._storm
        lanes, self._lanes = self._lanes, {}
        for lane in lanes.values():
            lane.is_ghost = True
            landing = 0
            if lane.queue and storm.strikes(storm.weather.ghosts):
                landing = storm.dice.randint(1, len(lane.queue))
            due_us = self._universe.now_us
            while len(lane.queue) > landing:
                lane.queue.pop()
            for pending in lane.queue:
                due_us += int(storm.weather.ghost_us_max * storm.dice.random() / landing)
                pending.due_us = due_us
            if lane.queue:
                self._cluster.stage.fault(self._link.name, "ghosts", landing, lane.log.topic)
                self._pump_at(lane, lane.queue[0].due_us)

    # Landing

    def _fate(self) -> _Fate:
        weather = self._storm.weather
        for fate in FAULTS:
            if self._storm.strikes(getattr(weather, fate.value)):
                return fate
        return _Fate.LANDS

    def _pump_at(self, lane: _Lane, due_us: int) -> None:
        if not lane.is_pump_due:
            lane.is_pump_due = True
            self._universe.at(due_us, lambda: self._pump(lane))

    def _pump(self, lane: _Lane) -> None:
        lane.is_pump_due = False
        while lane.queue:
            pending = lane.queue[0]
            if pending.due_us > self._universe.now_us:
                self._pump_at(lane, pending.due_us)
                return
            if self._is_held_up(lane):
                return
            lane.queue.popleft()
            self._land(lane, pending)

    def _is_held_up(self, lane: _Lane) -> bool:
        if lane.log.is_stalled:
            lane.log.when_elected.append(lambda: self._pump(lane))
            return True
        if lane.is_ghost or not self._link.is_silent:
            return False
        if self._link.is_frozen and not self._link.is_cut and lane.kernel_has > 0:
            lane.kernel_has -= 1
            return False
        self._link.when_mended(lambda: self._pump(lane))
        return True

    def _land(self, lane: _Lane, pending: _Pending) -> None:
        if pending.fate is not _Fate.LANDS:
            self._cluster.stage.fault(self._link.name, pending.fate.value, lane.log.topic)
        if pending.fate is _Fate.DROPPED:
            self._report(lane, pending, Report(None, 0, "Local: Message timed out"))
            return
        landed = self._write(lane, pending)
        if pending.fate is _Fate.LANDS_TWICE:
            self._write(lane, pending)
        self._report(lane, pending, self._answer(pending, landed))

    def _write(self, lane: _Lane, pending: _Pending) -> LogRecord:
        name = f"{self._link.name} ghost" if lane.is_ghost else self._link.name
        return self._cluster.land(lane.log, name, pending.key, pending.value, pending.headers)

    def _answer(self, pending: _Pending, landed: LogRecord) -> Report:
        match pending.fate:
            case _Fate.LANDS_WITH_ERROR:
                return Report(None, 0, "Broker: Not enough in-sync replicas after append")
            case _Fate.NO_OFFSET:
                return Report(None, 0, "acknowledged without an offset")
            case _Fate.WRONG_OFFSET:
                bogus = self._storm.dice.randrange(BOGUS_OFFSETS)
                return Report(bogus, landed.timestamp, None)
            case _:
                return Report(landed.offset, landed.timestamp, None)

    # Reports

    def _report(self, lane: _Lane, pending: _Pending, report: Report) -> None:
        if lane.is_ghost:
            return
        storm = self._storm
        due_us = self._universe.now_us + storm.latency_us()
        if storm.strikes(storm.weather.late_report):
            self._cluster.stage.fault(self._link.name, "late_report")
            due_us += int(storm.weather.late_report_us_max * storm.dice.random())
        lane.last_report_us = due_us = max(due_us, lane.last_report_us)
        self._universe.at(due_us, lambda: self._deliver(pending, report))

    def _deliver(self, pending: _Pending, report: Report) -> None:
        if pending not in self._outstanding:
            return  # of a client that failed: it was reported with an error
        if self._link.is_cut:
            self._link.when_mended(lambda: self._deliver(pending, report))
            return
        del self._outstanding[pending]
        self._loop.call_soon(pending.on_report, report)
