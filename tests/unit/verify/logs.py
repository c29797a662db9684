"""Logs as an engine would write them, built event by event, with their sources.

Every method writes what a correct owner writes; a test plants its violation by `write`,
which takes any epoch and number, or by changing the records afterwards.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from stepfold.core import events as e
from stepfold.core.commands import Cancel, Trigger
from stepfold.core.ids import NO_EPOCH, Epoch, Position, run_id_of, short_topic_id
from stepfold.journal.codec import encode_command, encode_event
from stepfold.journal.memory import MemoryCluster
from stepfold.journal.memory_scan import MemoryScan
from stepfold.journal.port import LogRecord
from stepfold.verify.app import verify_app
from stepfold.verify.report import Report, Violation

APP = "research"
HISTORY = f"{APP}.history"
INBOX = f"{APP}.inbox"
CONTROL = f"{APP}.control"
DLQ = f"{APP}.inbox.dlq"
START_MS = 1_700_000_000_000
STEP_MS = 10
"""Between two records."""
HOUR_MS = 3_600_000
NOWHERE = Position("", -1, -1, -1)
WORKER = "worker-1"


class Log:
    """Partition 0 of an app."""

    def __init__(self) -> None:
        self.now = START_MS
        self.cluster = MemoryCluster(lambda: self.now)
        self.topics = self.cluster.create_app(APP, 1)
        self.epoch = NO_EPOCH
        self.seq = 0
        self._last: int = -1
        self._nonce = 0

    # What an owner writes

    def open(self, worker: str = WORKER) -> Log:
        """A first owner, and what it opens."""
        self.claim(worker)
        self.append(
            e.ShardOpened(
                app=APP,
                history_topic_id=self.topics.history.topic_id,
                inbox_topic_id=self.topics.inbox.topic_id,
                control_topic_id=self.topics.control.topic_id,
                partitions=1,
                fold_version=1,
                created_by=worker,
            )
        )
        for topic in (self.topics.inbox, self.topics.control):
            self.append(
                e.IntakeOpened(
                    topic=topic.name, topic_id=topic.topic_id, partition=0, start_offset=0
                )
            )
        return self

    def claim(
        self,
        worker: str = WORKER,
        *,
        predecessor: Epoch | None = None,
        closes: tuple[int, int] | None = None,
    ) -> int:
        """closes: the last number that counts, and its offset."""
        self._nonce += 1
        before = self.epoch if predecessor is None else predecessor
        last_seq, last_offset = closes or (self.seq - 1, self._last)
        event = e.Claimed(
            prev_epoch_offset=before.offset,
            prev_epoch_nonce=before.nonce,
            nonce=self._nonce,
            worker_id=worker,
            host="host",
            pid=1,
            build="",
            fold_version=1,
            closes_last_seq=last_seq,
            closes_last_offset=last_offset,
            unsafe=False,
        )
        offset = self.write(event, epoch=NO_EPOCH, seq=-1)
        if before == self.epoch:
            self.epoch, self.seq, self._last = Epoch(offset, self._nonce), 0, offset
        return offset

    def append(self, event: e.Event) -> int:
        """The owner's next event; returns its offset."""
        offset = self.write(event, epoch=self.epoch, seq=self.seq)
        self.seq += 1
        self._last = offset
        return offset

    def write(self, event: e.Event, *, epoch: Epoch, seq: int) -> int:
        """Any record; returns its offset."""
        return self.write_bytes(encode_event(event, epoch=epoch, seq=seq, at=self.now))

    def write_bytes(self, value: bytes) -> int:
        self.now += STEP_MS
        return self.cluster.append(HISTORY, 0, None, value, []).offset

    # Sources

    def trigger(self, value: bytes = b'{"name": "agent/run"}') -> Position:
        return self._source(INBOX, self.topics.inbox.topic_id, value)

    def command(self) -> Position:
        value = encode_command(Cancel(run_id="any", by="test", reason=""))
        return self._source(CONTROL, self.topics.control.topic_id, value)

    def _source(self, topic: str, topic_id: str, value: bytes) -> Position:
        record = self.cluster.append(topic, 0, None, value, [])
        return Position(topic_id, 0, record.offset, record.leader_epoch)

    def run_id(self, source: Position, number: int = 0) -> str:
        topic = short_topic_id(self.topics.inbox.topic_id)
        return run_id_of(0, topic, source.offset, number)

    # Runs

    def accept(
        self, workflows: Sequence[str] = ("agent",), *, event_id: str = "", key: str = ""
    ) -> str:
        """A trigger that becomes runs; the id of the first."""
        return self.accept_from(self.trigger(), workflows, event_id=event_id, key=key)

    def accept_from(
        self,
        source: Position,
        workflows: Sequence[str] = ("agent",),
        *,
        event_id: str = "",
        key: str = "",
    ) -> str:
        event = self.accepted(source, workflows, event_id=event_id, key=key)
        self.append(event)
        return event.run_id

    def accepted(
        self,
        source: Position,
        workflows: Sequence[str] = ("agent",),
        *,
        event_id: str = "",
        key: str = "",
    ) -> e.RunAccepted:
        return e.RunAccepted(
            source=source,
            run_id=self.run_id(source),
            app=APP,
            event_name="agent/run",
            event_id=event_id,
            payload=b'{"q": 1}',
            payload_encoding="json",
            key_id="",
            runs=tuple(
                e.RunStart(self.run_id(source, number), name, "hash", "tenant", key, 0)
                for number, name in enumerate(workflows)
            ),
        )

    def reject(self, value: bytes = b"\xff broken") -> int:
        """A trigger that cannot be read: its copy in the DLQ, and the event; its offset."""
        source = self.trigger(value)
        copy = self.cluster.append(DLQ, 0, None, value, [])
        return self.append(
            e.IntakeRejected(
                source=source,
                run_id="",
                reason="neither JSON nor Avro",
                dlq_topic=DLQ,
                dlq_partition=0,
                dlq_offset=copy.offset,
                sha256=hashlib.sha256(value).hexdigest(),
            )
        )

    # The outcome

    @property
    def end(self) -> int:
        return len(self.records)

    @property
    def records(self) -> list[LogRecord]:
        """Of the history; the list itself, for tests that change it."""
        return self.cluster.log(HISTORY, 0).records

    @property
    def scan(self) -> MemoryScan:
        return MemoryScan(self.cluster)

    def check(self) -> Report:
        return verify_app(self.scan, APP, processes=1).report

    def violations(self) -> list[Violation]:
        return self.check().violations

    def broken(self) -> list[tuple[str, int]]:
        """Each violation's rule, and the offset that it is reported at."""
        return [(violation.rule, violation.offset) for violation in self.violations()]


def trigger_bytes(workflow: str, key: str = "") -> bytes:
    """The start of one workflow, as a client sends it."""
    return encode_command(
        Trigger(
            name=workflow,
            id="",
            workflow=workflow,
            payload=b"null",
            payload_encoding="json",
            key_id="",
            idempotency_key=key,
            sent_at=START_MS,
        )
    )


def started(
    run_id: str, step: str, attempt: int = 1, *, timeout_at: int = 0, isolated: bool = False
) -> e.AttemptStarted:
    return e.AttemptStarted(
        run_id=run_id,
        step=step,
        attempt=attempt,
        token=f"{run_id}:{step}:{attempt}",
        payload=b'{"args": [1], "kwargs": {}}' if attempt == 1 else b"",
        payload_encoding="json" if attempt == 1 else "none",
        key_id="",
        timeout_at=timeout_at,
        isolated=isolated,
        worker_id=WORKER,
    )


def completed(run_id: str, step: str, attempt: int = 1) -> e.StepCompleted:
    return e.StepCompleted(
        run_id=run_id,
        step=step,
        attempt=attempt,
        payload=b'{"found": ["a result of some words", "and another one"]}',
        payload_encoding="json",
        key_id="",
        took_ms=5,
    )


def failed(
    run_id: str, step: str, attempt: int = 1, *, next_at: int = 0, retryable: bool = True
) -> e.AttemptFailed:
    return e.AttemptFailed(
        run_id=run_id,
        step=step,
        attempt=attempt,
        error_type="ConnectionError",
        error_message=f"503, attempt {attempt}",
        error_stack="stack",
        retryable=retryable,
        next_at=next_at,
        took_ms=7,
    )


def timed_out(run_id: str, step: str, attempt: int = 1, *, next_at: int = 0) -> e.AttemptTimedOut:
    return e.AttemptTimedOut(
        run_id=run_id, step=step, attempt=attempt, reason="too long", next_at=next_at, took_ms=9
    )


def cancelled(run_id: str, step: str, attempt: int = 1) -> e.AttemptCancelled:
    return e.AttemptCancelled(run_id=run_id, step=step, attempt=attempt, reason="given up")


def lost(run_id: str, step: str, attempt: int, epoch: Epoch, *, times: int = 1) -> e.AttemptLost:
    return e.AttemptLost(
        run_id=run_id,
        step=step,
        attempt=attempt,
        lost=times,
        prev_epoch_offset=epoch.offset,
        prev_epoch_nonce=epoch.nonce,
    )


def run_completed(run_id: str) -> e.RunCompleted:
    return e.RunCompleted(run_id=run_id, payload=b'"done"', payload_encoding="json", key_id="")


def run_failed(run_id: str, error_type: str = "ValueError") -> e.RunFailed:
    return e.RunFailed(run_id=run_id, error_type=error_type, error_message="no", error_stack="")


def parked(run_id: str, step: str = "", *, lost: int = 0, reason: str = "poison") -> e.RunParked:
    return e.RunParked(run_id=run_id, reason=reason, message="", step=step, lost=lost, failed=0)


def timer_set(run_id: str, timer_id: str, due: int) -> e.TimerSet:
    return e.TimerSet(run_id=run_id, timer_id=timer_id, due=due, purpose="sleep")


def timer_fired(run_id: str, timer_id: str, due: int) -> e.TimerFired:
    return e.TimerFired(run_id=run_id, timer_id=timer_id, due=due)


def wait_opened(run_id: str, wait_id: str = "approval", *, kind: str = "signal") -> e.WaitOpened:
    name = wait_id.partition("#")[0]
    return e.WaitOpened(run_id=run_id, wait_id=wait_id, kind=kind, name=name, expires_at=0)


def wait_resolved(
    run_id: str,
    wait_id: str = "approval",
    *,
    signal_id: str = "signal-1",
    source: Position = NOWHERE,
) -> e.WaitResolved:
    return e.WaitResolved(
        source=source,
        run_id=run_id,
        wait_id=wait_id,
        signal_id=signal_id,
        payload=b"true",
        payload_encoding="json",
        key_id="",
    )


def buffered(
    run_id: str, source: Position, *, signal_id: str = "signal-1", name: str = "approval"
) -> e.SignalBuffered:
    return e.SignalBuffered(
        source=source,
        run_id=run_id,
        signal_id=signal_id,
        name=name,
        payload=b"true",
        payload_encoding="json",
        key_id="",
        ttl_at=0,
    )
