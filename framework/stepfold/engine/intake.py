"""Turns records of the inbox and of control into events, in the order of their offsets.

Rules R16 and R17. The start position is the folded one, never a committed one; a record
becomes history together with its position, in one event, so it is neither lost nor
taken twice. What cannot be read is copied to the DLQ first; only when the copy is
proven does intake go on, so that a crash repeats the copy rather than losing it.
"""

from __future__ import annotations

import hashlib
import logging
from collections import deque
from collections.abc import Sequence

from stepfold.core import commands as c
from stepfold.core import events as e
from stepfold.core import intake
from stepfold.core.errors import CodecError, PayloadTooLargeError
from stepfold.core.ids import Position, run_id_of, short_topic_id
from stepfold.engine.guard import Guard
from stepfold.engine.leader import Leader
from stepfold.engine.matching import child_start, runs_for
from stepfold.engine.shard_states import ShardUnreadableError
from stepfold.journal.codec import decode_command
from stepfold.journal.intake_formats import (
    REASON_MAX,
    dlq_headers,
    read_trigger,
    unreadable_payload,
)
from stepfold.journal.port import Appender, Batch, LogRecord, Reader, Report, TopicFacts

logger = logging.getLogger(__name__)

RUNS_OPEN_MAX = 20_000
"""Open runs of a shard at which its inbox is paused; control is read on."""
RUNS_OPEN_RESUME = 16_000
TRIGGER_BYTES_MAX = 900_000
"""The largest trigger that fits into one event (rule R20)."""
COMMAND_BYTES_MAX = 1_000_000
"""A delivery holds the largest input of a child run and what wraps it; one that is refused
would keep back for ever whatever its shard delivers after it."""
RECORDS_HELD_MAX = 5_000
"""Records that wait behind one that its dlq does not take, at which reading is paused."""
DLQ_RETRY_MS = 1_000
UNMATCHED_RECORDS_MAX = 1_000
"""Records that matched nothing before their range is written down."""


class Intake:
    """One source partition (inbox or control) of a shard that is led here."""

    def __init__(
        self,
        leader: Leader,
        source: TopicFacts,
        reader: Reader,
        appender: Appender,
        guard: Guard,
    ) -> None:
        self.source = source
        self._leader = leader
        self._reader = reader
        self._appender = appender
        self._guard = guard
        self._partition = leader.shard_id.partition
        self._is_inbox = source == leader.topics.inbox
        self._topic_short = short_topic_id(leader.topics.inbox.topic_id)
        self._records: deque[LogRecord] = deque()
        self._copying: LogRecord | None = None
        self._unmatched: tuple[int, LogRecord, int] | None = None  # first offset, last, count
        self._is_paused = False
        self._is_closed = False

    @property
    def position(self) -> int:
        """The offset of the first record that no event stands for."""
        taken = self._leader.shard.intake.get((self.source.topic_id, self._partition))
        return 0 if taken is None else taken.offset + 1

    @property
    def held(self) -> int:
        """Records that were read, and for which no event stands yet."""
        return len(self._records) + (self._copying is not None)

    def open(self) -> None:
        self._reader.open(self.source.name, self._partition, self.position, self._guard(self.take))

    def close(self) -> None:
        self._is_closed = True
        self._reader.close(self.source.name, self._partition)

    def take(self, batch: Batch) -> None:
        if self._is_closed:
            return
        if batch.error is not None:
            self._skip_gap(batch)
            return
        self._records.extend(batch.records)
        self._work()

    def relieve(self) -> None:
        """Read on when enough runs have ended; give up commands whose run did not come."""
        if self._is_inbox and self._leader.writer.is_certain:
            self._append(intake.overdue(self._leader.shard, self._leader.clock.now_ms()))
        runs = len(self._leader.shard.runs)
        if self._is_paused and runs < RUNS_OPEN_RESUME and self.held < RECORDS_HELD_MAX:
            self._is_paused = False
            self._reader.resume(self.source.name, self._partition)

    def _work(self) -> None:
        while self._records and self._copying is None and self._leader.writer.is_certain:
            record = self._records.popleft()
            if record.offset < self.position:
                continue
            try:
                self._take_one(record)
            except (CodecError, PayloadTooLargeError) as error:
                self._flush_unmatched()
                self._reject(record, str(error))
        if self._leader.writer.is_certain:
            self._flush_unmatched()
        self._restrain()

    def _restrain(self) -> None:
        has_too_many_runs = self._is_inbox and len(self._leader.shard.runs) > RUNS_OPEN_MAX
        if not self._is_paused and (has_too_many_runs or self.held > RECORDS_HELD_MAX):
            self._is_paused = True
            self._reader.pause(self.source.name, self._partition)

    def _take_one(self, record: LogRecord) -> None:
        size = len(record.value or b"")
        limit = TRIGGER_BYTES_MAX if self._is_inbox else COMMAND_BYTES_MAX
        if size > limit:
            raise CodecError(f"the record has {size} bytes, the limit is {limit}")
        events = self._trigger(record) if self._is_inbox else self._command(record)
        if not events:
            self._note_unmatched(record)
            return
        self._flush_unmatched()
        self._append(events)

    def _append(self, events: Sequence[e.Event]) -> None:
        for event in events:
            self._leader.append(event, tenant=self._tenant(event))
        for event in events:
            self._follow(event)

    def _trigger(self, record: LogRecord) -> Sequence[e.Event]:
        trigger = read_trigger(record)
        leader = self._leader
        starts = runs_for(
            leader.app,
            trigger,
            lambda number: run_id_of(record.partition, self._topic_short, record.offset, number),
            record.timestamp,
        )
        return intake.accept(leader.shard, leader.app.name, trigger, self._place(record), starts)

    def _command(self, record: LogRecord) -> Sequence[e.Event]:
        command = decode_command(record.value or b"")
        if isinstance(command, c.Trigger):
            raise CodecError("a Trigger belongs on the inbox, not on control")
        leader = self._leader
        if isinstance(command, c.Nudge):
            leader.look_again(command.run_id)
        place = self._place(record)
        if isinstance(command, c.StartChild | c.ResolveChild):
            kind = type(command).__name__
            raise CodecError(f"a {kind} comes inside of a Deliver only, from a shard's owner")
        refusal = self._refusal_of(command) if isinstance(command, c.Signal) else None
        if refusal is not None:
            return (intake.rejected(place, refusal, run_id=command.run_id),)
        if isinstance(command, c.Deliver) and isinstance(command.body, c.StartChild):
            start = child_start(leader.app, command.body, record.timestamp)
            return intake.accept_child(leader.shard, leader.app.name, command, place, start)
        return intake.control(leader.shard, command, place, record.timestamp)

    def _refusal_of(self, signal: c.Signal) -> str | None:
        unreadable = unreadable_payload(signal.payload, signal.payload_encoding, signal.key_id)
        return unreadable or self._leader.refusal_of(signal)

    def _follow(self, event: e.Event) -> None:
        """Let the runs that the event concerns go on."""
        shard = self._leader.shard
        if isinstance(event, e.RunAccepted):
            for start in event.runs:
                self._leader.go_on(shard.runs[start.run_id])
            return
        run = shard.runs.get(getattr(event, "run_id", ""))
        if run is None:
            return
        if isinstance(event, e.RunResumed):
            self._leader.resumed(run)
        else:
            self._leader.go_on(run)

    def _note_unmatched(self, record: LogRecord) -> None:
        first, count = record.offset, 0
        if self._unmatched is not None:
            first, _, count = self._unmatched
        self._unmatched = (first, record, count + 1)
        if count + 1 >= UNMATCHED_RECORDS_MAX:
            self._flush_unmatched()

    def _flush_unmatched(self) -> None:
        if self._unmatched is not None:
            first, last, _ = self._unmatched
            self._unmatched = None
            self._leader.append(e.IntakeUnmatched(source=self._place(last), from_offset=first))

    def _reject(self, record: LogRecord, reason: str) -> None:
        logger.warning(
            "record goes to the dlq",
            extra={
                "topic": record.topic,
                "partition": record.partition,
                "offset": record.offset,
                "reason": reason[:REASON_MAX],
            },
        )
        self._copy_to_dlq(record, reason)

    def _copy_to_dlq(self, record: LogRecord, reason: str) -> None:
        self._copying = record
        self._appender.append(
            self._leader.topics.dlq.name,
            record.partition % self._leader.topics.dlq.partitions,
            record.key or b"",
            record.value or b"",
            dlq_headers(record, reason),
            self._guard(lambda report: self._copied(record, reason, report)),
        )

    def _copied(self, record: LogRecord, reason: str, report: Report) -> None:
        if self._is_closed or not self._leader.writer.is_certain:
            return
        if report.error is not None or report.offset is None:
            logger.warning(
                "the dlq takes no copy",
                extra={"topic": self._leader.topics.dlq.name, "reason": report.error},
            )
            clock = self._leader.clock
            clock.call_at(
                clock.now_ms() + DLQ_RETRY_MS,
                self._guard(lambda: None if self._is_closed else self._copy_to_dlq(record, reason)),
            )
            return
        dlq = self._leader.topics.dlq
        self._leader.append(
            intake.rejected(
                self._place(record),
                reason,
                dlq=(dlq.name, record.partition % dlq.partitions, report.offset),
                sha256=hashlib.sha256(record.value or b"").hexdigest(),
            )
        )
        self._copying = None
        self._work()

    def _skip_gap(self, batch: Batch) -> None:
        """Records before batch.position are gone: say so in the history, and go on there."""
        if batch.position <= self.position:
            place = f"{self.source.name}/{self._partition}"
            raise ShardUnreadableError(place, self.position, batch.error or "no reason given")
        logger.error(
            "source records are gone before intake took them",
            extra={"topic": self.source.name, "partition": self._partition, "why": batch.error},
        )
        gap = e.IntakeGap(
            topic=self.source.name,
            topic_id=self.source.topic_id,
            partition=self._partition,
            from_offset=self.position,
            to_offset=batch.position - 1,
        )
        self._leader.append(gap)
        self.open()

    def _place(self, record: LogRecord) -> Position:
        return Position(self.source.topic_id, record.partition, record.offset, record.leader_epoch)

    def _tenant(self, event: e.Event) -> str:
        if isinstance(event, e.RunAccepted):
            return event.runs[0].tenant
        run = self._leader.shard.runs.get(getattr(event, "run_id", ""))
        return "" if run is None else run.tenant
