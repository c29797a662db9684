"""A consumer that is late, takes bites of any size, and stops when it is cut off."""

from __future__ import annotations

import asyncio

from stepfold.journal.port import Batch, BatchSink
from tests.simulation.cluster import SimCluster, SimLog
from tests.simulation.link import Link


class _Reading:
    """One open partition: fetches, one at a time, and hands over what came back."""

    def __init__(
        self,
        cluster: SimCluster,
        link: Link,
        log: SimLog,
        position: int,
        sink: BatchSink,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self.is_paused = False
        self._cluster = cluster
        self._link = link
        self._log = log
        self._position = position
        self._sink = sink
        self._loop = loop
        self._number = cluster.number()
        self._is_open = True
        self._is_fetching = False
        self._held: Batch | None = None
        self._end_told_at = -1
        log.watchers[self._number] = self.wake
        self.wake()

    def close(self) -> None:
        self._is_open = False
        self._log.watchers.pop(self._number, None)

    def resume(self) -> None:
        self.is_paused = False
        if self._held is not None:
            self._loop.call_soon(self._give_held)
        self.wake()

    def wake(self) -> None:
        is_busy = self._is_fetching or self._held is not None
        if self._is_open and not (self.is_paused or is_busy):
            self._is_fetching = True
            self._cluster.universe.after(self._cluster.storm.latency_us(), self._fetch)

    def _fetch(self) -> None:
        self._is_fetching = False
        if not self._is_open or self.is_paused:
            return
        if self._link.is_silent:
            self._link.when_mended(self.wake)
            return
        if self._log.is_stalled:
            return  # the election wakes it
        batch = self._fetched()
        if batch is None:
            return
        storm = self._cluster.storm
        delay_us = storm.latency_us()
        if storm.strikes(storm.weather.read_slow_chance):
            delay_us += int(storm.weather.slow_us_max * storm.dice.random())
        self._is_fetching = True
        self._cluster.universe.after(delay_us, lambda: self._loop.call_soon(self._arrive, batch))

    def _fetched(self) -> Batch | None:
        low, end = self._log.low, self._log.end
        if not low <= self._position <= end:
            nearest = low if self._position < low else end
            why = f"offset {self._position} is out of range: the log holds {low} up to {end}"
            return Batch((), False, nearest, why)
        first = self._position - low
        records = self._log.records[first : first + self._cluster.storm.weather.batch_records_max]
        at_end = self._position + len(records) == end
        if not records and self._end_told_at == end:
            return None
        if at_end:
            self._end_told_at = end
        return Batch(records, at_end, self._position + len(records))

    def _arrive(self, batch: Batch) -> None:
        self._is_fetching = False
        if not self._is_open:
            return
        if batch.error is None:
            self._position = batch.position
        if self.is_paused:
            self._held = batch
        else:
            self._hand_over(batch)

    def _give_held(self) -> None:
        held = self._held
        if held is not None and self._is_open and not self.is_paused:
            self._held = None
            self._hand_over(held)

    def _hand_over(self, batch: Batch) -> None:
        if batch.error is not None:
            self.close()
        else:
            self.wake()
        self._sink(batch)


class SimReader:
    """A Reader."""

    def __init__(self, cluster: SimCluster, link: Link, loop: asyncio.AbstractEventLoop) -> None:
        self._cluster = cluster
        self._link = link
        self._loop = loop
        self._open: dict[tuple[str, int], _Reading] = {}

    def open(self, topic: str, partition: int, offset: int, sink: BatchSink) -> None:
        self.close(topic, partition)
        if self._link.is_dead:
            return
        log = self._cluster.log(topic, partition)
        if log is None:
            gone = Batch((), False, offset, f"there is no partition {topic}/{partition}")
            self._loop.call_soon(sink, gone)
            return
        reading = _Reading(self._cluster, self._link, log, offset, sink, self._loop)
        self._open[topic, partition] = reading

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
            reading.resume()

    def close_all(self) -> None:
        for topic, partition in list(self._open):
            self.close(topic, partition)
