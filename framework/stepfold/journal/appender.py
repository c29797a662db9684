"""The process's one producer, polled from the event loop.

A poll thread would double the latency of a step: the interpreter lock has to change
hands for each report. So the loop polls while anything was appended lately, ever more
rarely while Kafka does not answer, and not at all when nothing is outstanding.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

from confluent_kafka import KafkaException, Producer

from stepfold.journal.port import Headers, Report, ReportSink

logger = logging.getLogger(__name__)

BUSY_POLL_S = 0.003
"""After an append or a report the loop polls in every turn for this long."""
IDLE_POLL_FIRST_S = 0.001
IDLE_POLL_MAX_S = 0.05
WAITING_MAX = 200_000
"""Records that wait here because the producer's own queue is full."""
CLOSE_TIMEOUT_S = 2.0


class _Record(NamedTuple):
    topic: str
    partition: int
    key: bytes
    value: bytes
    headers: Headers
    on_report: ReportSink


class KafkaAppender:
    def __init__(self, config: Mapping[str, Any], loop: asyncio.AbstractEventLoop) -> None:
        self._config = dict(config)
        self._loop = loop
        self._producer: Producer | None = Producer(self._config)
        self._outstanding: dict[int, ReportSink] = {}
        self._number = 0
        self._waiting: deque[_Record] = deque()
        self._polling: asyncio.Handle | None = None
        self._busy_until = 0.0
        self._delay_s = IDLE_POLL_FIRST_S

    def append(
        self,
        topic: str,
        partition: int,
        key: bytes,
        value: bytes,
        headers: Headers,
        on_report: ReportSink,
    ) -> None:
        record = _Record(topic, partition, key, value, headers, on_report)
        if self._waiting or not self._produce(record):
            self._wait(record)
        self._busy_until = self._loop.time() + BUSY_POLL_S
        self._delay_s = IDLE_POLL_FIRST_S
        if self._polling is None or self._polling.cancelled():
            self._polling = self._loop.call_soon(self._poll)

    def close(self) -> None:
        """Give what is under way a moment to land; report nothing any more."""
        if self._polling is not None:
            self._polling.cancel()
        self._outstanding.clear()
        if self._producer is not None:
            try:
                self._producer.flush(CLOSE_TIMEOUT_S)
            except (KafkaException, SystemError):
                logger.debug("producer failed while closing")
            self._producer = None

    def _wait(self, record: _Record) -> None:
        if len(self._waiting) >= WAITING_MAX:
            self._loop.call_soon(record.on_report, Report(None, 0, "too many records wait"))
            return
        self._waiting.append(record)

    def _produce(self, record: _Record) -> bool:
        """Whether the record was taken; a full queue is no error, it has to wait."""
        producer = self._producer
        if producer is None:
            producer = self._producer = Producer(self._config)
        self._number += 1
        number = self._number
        self._outstanding[number] = record.on_report
        try:
            producer.produce(
                record.topic,
                record.value,
                record.key or None,
                record.partition,
                partial(self._delivered, number),
                headers=record.headers,
            )
        except BufferError:
            del self._outstanding[number]
            return False
        except KafkaException as error:
            # Too large, or the client is fatally broken: this record did not go.
            del self._outstanding[number]
            self._loop.call_soon(record.on_report, Report(None, 0, str(error)))
        return True

    def _delivered(self, number: int, error: Any, message: Any) -> None:
        sink = self._outstanding.pop(number, None)
        if sink is None:
            return
        if error is not None:
            sink(Report(None, 0, str(error)))
            return
        offset = message.offset()
        if offset is None or offset < 0:
            sink(Report(None, 0, "acknowledged without an offset"))
            return
        sink(Report(offset, message.timestamp()[1], None))

    def _poll(self) -> None:
        self._polling = None
        if self._producer is None:
            return
        try:
            served = self._producer.poll(0)
        except BaseException as error:  # noqa: BLE001 - fatal errors surface as anything here
            self._fail_all(str(error))
            return
        while self._waiting and self._produce(self._waiting[0]):
            self._waiting.popleft()
        if not self._outstanding and not self._waiting:
            return
        now = self._loop.time()
        if served:
            self._busy_until = now + BUSY_POLL_S
            self._delay_s = IDLE_POLL_FIRST_S
        if now < self._busy_until:
            self._polling = self._loop.call_soon(self._poll)
        else:
            self._polling = self._loop.call_later(self._delay_s, self._poll)
            self._delay_s = min(self._delay_s * 1.5, IDLE_POLL_MAX_S)

    def _fail_all(self, reason: str) -> None:
        """The client is fatally broken: everything outstanding is uncertain, a new one is made."""
        logger.error("producer failed and is replaced", extra={"reason": reason})
        self._producer = None
        sinks = [*self._outstanding.values(), *(r.on_report for r in self._waiting)]
        self._outstanding.clear()
        self._waiting.clear()
        for sink in sinks:
            sink(Report(None, 0, reason))
