"""The process's one producer, polled from the event loop.

A poll thread would double the latency of a step: the interpreter lock has to change
hands for each report. So the loop polls in every turn while anything was appended or
reported lately, ever more rarely while Kafka does not answer, and not at all when
nothing is outstanding. A turn that finds nothing gives up its processor once: on two
cores a loop that only spun kept the broker and the reader's thread from running, and
its own acknowledgements took 2.1 ms instead of 0.6.

A client that fails fatally says so by raising from a poll, and may swallow reports as it
does. Then nothing outstanding is known any more: all of it is reported with an error,
and the next append gets a new client.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

from confluent_kafka import KafkaError, KafkaException, Producer

from stepfold.journal.port import Headers, Report, ReportSink

logger = logging.getLogger(__name__)

BUSY_POLL_S = 0.003
"""After an append or a report the loop polls in every turn for this long."""
IDLE_POLL_FIRST_S = 0.001
IDLE_POLL_MAX_S = 0.05
"""The pace while Kafka is away: 20 polls a second cost nothing that could be measured."""
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
    """An Appender. Everything runs on the loop; only a discarded client ends in a thread."""

    def __init__(self, config: Mapping[str, Any], loop: asyncio.AbstractEventLoop) -> None:
        self._config = dict(config)
        self._loop = loop
        # The first client is made now, so that a setting it refuses shows at the start.
        self._producer: Producer | None = Producer(self._config)
        self._outstanding: dict[int, ReportSink] = {}
        self._number = 0
        self._waiting: deque[_Record] = deque()
        self._polling: asyncio.Handle | None = None
        self._is_polling_each_turn = False
        self._busy_until = 0.0
        self._delay_s = IDLE_POLL_FIRST_S
        self._is_closed = False
        self._idle: asyncio.Future[None] | None = None  # awaited by close

    def append(
        self,
        topic: str,
        partition: int,
        key: bytes,
        value: bytes,
        headers: Headers,
        on_report: ReportSink,
    ) -> None:
        if self._is_closed:
            self._refuse(on_report, "the journal is closed")
            return
        record = _Record(topic, partition, key, value, headers, on_report)
        # A record may not pass those that wait: order is promised per partition.
        if self._waiting or not self._produce(record):
            self._wait(record)
        self._busy_until = self._loop.time() + BUSY_POLL_S
        self._delay_s = IDLE_POLL_FIRST_S
        self._poll_each_turn()

    def renew(self, reason: str) -> None:
        self._replace(reason)

    async def close(self) -> None:
        """Give what is under way a moment to land, and report an error for the rest."""
        self._is_closed = True
        if self._outstanding or self._waiting:
            self._idle = self._loop.create_future()
            await asyncio.wait((self._idle,), timeout=CLOSE_TIMEOUT_S)
        if self._polling is not None:
            self._polling.cancel()
        self._give_up("the journal was closed before Kafka answered")

    def _wait(self, record: _Record) -> None:
        if len(self._waiting) >= WAITING_MAX:
            self._refuse(record.on_report, f"{WAITING_MAX} records wait for Kafka already")
            return
        self._waiting.append(record)

    def _produce(self, record: _Record) -> bool:
        """Whether the record was dealt with; a full queue is no error, it has to wait."""
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
                headers=[*record.headers],
            )
        except BufferError:
            del self._outstanding[number]
            return False
        except KafkaException as error:
            del self._outstanding[number]
            self._refuse(record.on_report, _reason(error))
            if _is_fatal(error):
                self._replace(_reason(error))
        return True

    def _delivered(self, number: int, error: Any, message: Any) -> None:
        """Runs inside poll(): what a sink raised here would look like a client's failure.

        So the sinks are called by the loop, in the order of the reports.
        """
        sink = self._outstanding.pop(number, None)
        if sink is None:
            return  # of a client that was replaced: it was reported with an error
        if error is not None:
            self._refuse(sink, str(error.str()))
            return
        offset = message.offset()
        if offset is None or offset < 0:
            self._refuse(sink, "acknowledged without an offset")
            return
        self._loop.call_soon(sink, Report(offset, message.timestamp()[1], None))

    def _poll_each_turn(self) -> None:
        if not self._is_polling_each_turn:
            if self._polling is not None:
                self._polling.cancel()
            self._polling = self._loop.call_soon(self._poll)
            self._is_polling_each_turn = True

    def _poll(self) -> None:
        self._polling = None
        self._is_polling_each_turn = False
        producer = self._producer
        if producer is None:
            return
        try:
            served = producer.poll(0)
        except BaseException as error:
            self._replace(_reason(error))
            if not isinstance(error, Exception):
                raise
            return
        self._produce_waiting()
        if self._outstanding or self._waiting:
            self._poll_again(served > 0)
        elif self._idle is not None and not self._idle.done():
            self._idle.set_result(None)

    def _produce_waiting(self) -> None:
        while self._waiting:
            record = self._waiting.popleft()
            if not self._produce(record):
                self._waiting.appendleft(record)
                break

    def _poll_again(self, found_reports: bool) -> None:
        now = self._loop.time()
        if found_reports:
            self._busy_until = now + BUSY_POLL_S
            self._delay_s = IDLE_POLL_FIRST_S
        if now >= self._busy_until:
            self._polling = self._loop.call_later(self._delay_s, self._poll)
            self._delay_s = min(self._delay_s * 1.5, IDLE_POLL_MAX_S)
            return
        if not found_reports:
            _give_way()
        self._poll_each_turn()

    def _replace(self, reason: str) -> None:
        logger.error("producer is replaced", extra={"reason": reason})
        self._give_up(reason)

    def _give_up(self, reason: str) -> None:
        """Discard the client; everything outstanding is uncertain."""
        sinks = [*self._outstanding.values(), *(record.on_report for record in self._waiting)]
        self._outstanding.clear()
        self._waiting.clear()
        for sink in sinks:
            self._refuse(sink, reason)
        if self._producer is not None:
            discarded = [self._producer]
            self._producer = None
            # Ending a client joins its threads, which may take long: not on the loop.
            threading.Thread(
                target=_discard, args=(discarded,), name="stepfold-discard", daemon=True
            ).start()

    def _refuse(self, sink: ReportSink, reason: str) -> None:
        self._loop.call_soon(sink, Report(None, 0, reason))


def _give_way() -> None:
    if hasattr(os, "sched_yield"):
        os.sched_yield()
    else:
        time.sleep(0)


def _discard(producers: list[Producer]) -> None:
    producer = producers.pop()
    with contextlib.suppress(KafkaException, SystemError, RuntimeError):
        producer.purge(blocking=False)


def _code(error: BaseException) -> KafkaError | None:
    inner = error.args[0] if isinstance(error, KafkaException) and error.args else None
    return inner if isinstance(inner, KafkaError) else None


def _is_fatal(error: KafkaException) -> bool:
    code = _code(error)
    return code is not None and (code.fatal() or code.code() == KafkaError._FATAL)


def _reason(error: BaseException) -> str:
    code = _code(error)
    return code.str() if code is not None else f"{type(error).__name__}: {error}"
