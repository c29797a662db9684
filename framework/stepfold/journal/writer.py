"""One shard's events on their way to the log, and the proof that they arrived unrivalled.

Rules R7 and R8. Every event takes the next sequence number when it is appended. The
only writer of a partition knows which offset each record must get: an acknowledgement
with exactly that offset, after all earlier ones were proven, shows that nobody wrote in
between, and so that no newer owner exists up to there. Anything else proves nothing:
the writer then stops for good, and its owner reads the log to know.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import NamedTuple, TypeAlias

from stepfold.core.errors import PayloadTooLargeError
from stepfold.core.events import Event
from stepfold.core.ids import Epoch
from stepfold.core.shard import Chain
from stepfold.journal.codec import encode_event, event_headers, event_run_id
from stepfold.journal.port import Appender, Report

IN_FLIGHT_MAX = 64
"""Records of one shard without a report. It bounds the void records of a superseded
owner, and the throughput per round trip."""

EVENT_BYTES_MAX = 980_000
"""Kafka's client refuses records of 1,000,000 bytes with their key and headers, and an event
that is refused stops its shard. What may be large is bounded where it comes from; this is
the last line, before a sequence number is taken (rule R20)."""

UNPROVEN_EVENTS_MAX = 5_000
UNPROVEN_BYTES_MAX = 64 * 1024 * 1024
"""Events ahead of their proof, and their size. Beyond either nothing new is begun or taken in;
what has happened already, such as a result, is still appended: it is never dropped for room."""

WhenProven: TypeAlias = Callable[[], None]


class _Unsent(NamedTuple):
    seq: int
    key: bytes
    value: bytes
    headers: list[tuple[str, bytes]]


class _Unproven(NamedTuple):
    appended_at: float
    size: int


class HistoryWriter:
    """on_uncertain is called once, with the reason; nothing is handed over after it.

    on_error gets what a `when_proven` raises: it must not pass for a failed proof.
    now_s: a clock that never goes back; it only tells how long proofs have not come.
    """

    def __init__(
        self,
        *,
        appender: Appender,
        topic: str,
        partition: int,
        epoch: Epoch,
        on_uncertain: Callable[[str], None],
        on_proof: Callable[[int], None],
        on_error: Callable[[Exception], None],
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self.epoch = epoch
        self.next_seq = 0
        self.proven_seq = -1
        self.is_certain = True
        self._appender = appender
        self._topic = topic
        self._partition = partition
        self._on_uncertain = on_uncertain
        self._on_proof = on_proof
        self._on_error = on_error
        self._now_s = now_s
        self._proven_at = now_s()
        self._unproven: deque[_Unproven] = deque()
        self._unproven_bytes = 0
        self._unsent: deque[_Unsent] = deque()
        self._in_flight = 0
        self._when_proven: deque[tuple[int, WhenProven]] = deque()

    @property
    def unproven(self) -> int:
        """Events that were appended and are not proven yet."""
        return len(self._unproven)

    @property
    def is_full(self) -> bool:
        """Whether so much is unproven that nothing more should be begun."""
        return (
            len(self._unproven) > UNPROVEN_EVENTS_MAX or self._unproven_bytes > UNPROVEN_BYTES_MAX
        )

    @property
    def oldest_s(self) -> float:
        """How long the oldest unproven event has been waiting; 0 when there is none."""
        return self._now_s() - self._unproven[0].appended_at if self._unproven else 0.0

    @property
    def stalled_s(self) -> float:
        """How long no proof has come although something waits for one."""
        return min(self.oldest_s, self._now_s() - self._proven_at)

    @property
    def last_offset(self) -> int:
        """Where the last event that was appended has to land."""
        return self.epoch.offset + self.next_seq

    @property
    def proven(self) -> Chain:
        """The state of the chain after the last event that is proven."""
        next_seq = self.proven_seq + 1
        return Chain(self.epoch, next_seq, self.epoch.offset + next_seq)

    def append(
        self, event: Event, *, at: int, tenant: str, when_proven: WhenProven | None = None
    ) -> None:
        """Give the event its place in the history; when_proven runs once the place is proven.

        Raises PayloadTooLargeError, and whatever else keeps the event from being encoded;
        then it has taken no place.
        """
        seq = self.next_seq
        value = encode_event(event, epoch=self.epoch, seq=seq, at=at, tenant=tenant)
        if len(value) > EVENT_BYTES_MAX:
            kind = type(event).__name__
            raise PayloadTooLargeError(f"the {kind} event", len(value), EVENT_BYTES_MAX)
        headers = event_headers(event, self.epoch, seq)
        self.next_seq += 1
        if when_proven is not None:
            self._when_proven.append((seq, when_proven))
        self._unproven.append(_Unproven(self._now_s(), len(value)))
        self._unproven_bytes += len(value)
        self._unsent.append(_Unsent(seq, event_run_id(event).encode(), value, headers))
        self._hand_over()

    def when_caught_up(self, when_proven: WhenProven) -> None:
        """Call back once all that was appended so far is proven; there must be something."""
        self._when_proven.append((self.next_seq - 1, when_proven))

    def stop(self) -> None:
        """Hand nothing over any more; what is under way may still land (R5 judges it)."""
        self.is_certain = False
        self._unsent.clear()
        self._when_proven.clear()

    def _hand_over(self) -> None:
        while self.is_certain and self._unsent and self._in_flight < IN_FLIGHT_MAX:
            record = self._unsent.popleft()
            self._in_flight += 1
            seq = record.seq
            self._appender.append(
                self._topic,
                self._partition,
                record.key,
                record.value,
                record.headers,
                partial(self._reported, seq),
            )

    def _reported(self, seq: int, report: Report) -> None:
        self._in_flight -= 1
        if not self.is_certain:
            return
        expected = self.epoch.offset + 1 + seq
        if report.error is not None or report.offset != expected or seq != self.proven_seq + 1:
            self.stop()
            self._on_uncertain(
                f"event {seq} expected offset {expected}, was reported at {report.offset}"
                f" ({report.error or 'no error'})"
            )
            return
        self.proven_seq = seq
        self._proven_at = self._now_s()
        self._unproven_bytes -= self._unproven.popleft().size
        self._on_proof(report.timestamp)
        try:
            while self._when_proven and self._when_proven[0][0] <= seq:
                self._when_proven.popleft()[1]()
        except Exception as error:  # noqa: BLE001 - it is handed on, with all it knows
            self._on_error(error)
        self._hand_over()
