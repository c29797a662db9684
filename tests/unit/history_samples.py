"""Histories for the projection's tests: random, but such as an engine could have written."""

from __future__ import annotations

import random
from collections.abc import Sequence

from stepfold.core import events as e
from stepfold.core.ids import NO_EPOCH, Epoch, Position, run_id_of, short_topic_id
from stepfold.journal.codec import encode_event
from stepfold.journal.port import LogRecord, TopicFacts

APP = "research"
HISTORY = TopicFacts(f"{APP}.history", "history-id", 1)
INBOX_ID = "inbox-id"
CONTROL_ID = "control-id"
NOWHERE = Position("", -1, -1, -1)
START_MS = 1_700_000_000_000


class HistoryMaker:
    """Appends events with the envelope that an owner would give them; `records` is the log."""

    def __init__(self) -> None:
        self.records: list[LogRecord] = []
        self.epoch = NO_EPOCH
        self.seq = 0
        self._inbox = -1
        self._control = -1

    def claim(self, nonce: int) -> None:
        claim = e.Claimed(
            prev_epoch_offset=self.epoch.offset,
            prev_epoch_nonce=self.epoch.nonce,
            nonce=nonce,
            worker_id=f"worker-{nonce}",
            host="host",
            pid=1,
            build="",
            fold_version=1,
            closes_last_seq=self.seq - 1,
            closes_last_offset=len(self.records) - 1,
            unsafe=False,
        )
        offset = self._write(encode_event(claim, epoch=NO_EPOCH, seq=-1, at=self._now()))
        self.epoch, self.seq = Epoch(offset, nonce), 0

    def append(self, event: e.Event) -> None:
        self._write(encode_event(event, epoch=self.epoch, seq=self.seq, at=self._now()))
        self.seq += 1

    def append_void(self, event: e.Event, choose: random.Random) -> None:
        """Fenced, repeated or behind a gap."""
        epoch, seq = choose.choice(
            [(Epoch(0, 4711), 0), (self.epoch, max(0, self.seq - 1)), (self.epoch, self.seq + 1)]
        )
        self._write(encode_event(event, epoch=epoch, seq=seq, at=self._now()))

    def append_bytes(self, value: bytes) -> None:
        self._write(value)

    def next_inbox(self) -> Position:
        self._inbox += 1
        return Position(INBOX_ID, 0, self._inbox, 0)

    def next_control(self) -> Position:
        self._control += 1
        return Position(CONTROL_ID, 0, self._control, 0)

    @property
    def upcoming_run(self) -> str:
        """The id of the run that the next trigger but three will start."""
        return run_id_of(0, short_topic_id(INBOX_ID), self._inbox + 4)

    def _now(self) -> int:
        return START_MS + len(self.records) * 10

    def _write(self, value: bytes) -> int:
        offset = len(self.records)
        self.records.append(LogRecord(HISTORY.name, 0, offset, 0, self._now(), None, value, ()))
        return offset


OPENED = e.ShardOpened(
    app=APP,
    history_topic_id=HISTORY.topic_id,
    inbox_topic_id=INBOX_ID,
    control_topic_id=CONTROL_ID,
    partitions=1,
    fold_version=1,
    created_by="test",
)


def accepted(source: Position, *, workflows: Sequence[str] = ("agent",)) -> e.RunAccepted:
    topic = short_topic_id(INBOX_ID)
    ids = [run_id_of(0, topic, source.offset, number) for number in range(len(workflows))]
    return e.RunAccepted(
        source=source,
        run_id=ids[0],
        app=APP,
        event_name="agent/run",
        event_id=f"event-{source.offset}",
        payload=b'{"q": 1}',
        payload_encoding="json",
        key_id="",
        runs=tuple(
            e.RunStart(run_id, workflow, "hash", "tenant", "", 0)
            for run_id, workflow in zip(ids, workflows, strict=True)
        ),
    )


def started(run_id: str, step: str, attempt: int = 1) -> e.AttemptStarted:
    return e.AttemptStarted(
        run_id=run_id,
        step=step,
        attempt=attempt,
        token="t",
        payload=b'{"args": [1], "kwargs": {}}' if attempt == 1 else b"",
        payload_encoding="json",
        key_id="",
        timeout_at=0,
        isolated=False,
        worker_id="worker",
    )


def step_completed(run_id: str, step: str, attempt: int = 1) -> e.StepCompleted:
    return e.StepCompleted(
        run_id=run_id,
        step=step,
        attempt=attempt,
        payload=b"42",
        payload_encoding="json",
        key_id="",
        took_ms=5,
    )


def attempt_failed(run_id: str, step: str, attempt: int = 1, *, next_at: int) -> e.AttemptFailed:
    return e.AttemptFailed(
        run_id=run_id,
        step=step,
        attempt=attempt,
        error_type="ConnectionError",
        error_message=f"503, attempt {attempt}",
        error_stack="stack",
        retryable=True,
        next_at=next_at,
        took_ms=7,
    )


def run_completed(run_id: str) -> e.RunCompleted:
    return e.RunCompleted(run_id=run_id, payload=b'"done"', payload_encoding="json", key_id="")


def run_failed(run_id: str) -> e.RunFailed:
    return e.RunFailed(
        run_id=run_id, error_type="ValueError", error_message="no such city", error_stack="stack"
    )


def random_history(seed: int, events: int = 120) -> list[LogRecord]:
    """Claims, void records, early requests, triggers of one or several runs, steps and ends."""
    choose = random.Random(seed)
    log = HistoryMaker()
    log.claim(1)
    log.append(OPENED)
    open_runs: dict[str, int] = {}
    while len(log.records) < events:
        _one_more(choose, log, open_runs)
    return log.records


def _one_more(choose: random.Random, log: HistoryMaker, open_runs: dict[str, int]) -> None:
    what = choose.random()
    if what < 0.04:
        log.claim(choose.randrange(2, 10**6))
    elif what < 0.08:
        early = e.CancelRequested(
            source=log.next_control(), run_id=log.upcoming_run, by="test", reason="early"
        )
        log.append(early)
    elif what < 0.14:
        log.append_void(run_completed(run_id_of(0, "00000", 1)), choose)
    elif what < 0.3 or not open_runs:
        event = accepted(log.next_inbox(), workflows=("agent", "audit")[: choose.randint(1, 2)])
        log.append(event)
        open_runs.update({start.run_id: 0 for start in event.runs})
    else:
        _go_on(choose, log, open_runs)


def _go_on(choose: random.Random, log: HistoryMaker, open_runs: dict[str, int]) -> None:
    run_id = choose.choice(list(open_runs))
    number = open_runs[run_id]
    step = f"search#{number}"
    if choose.random() < 0.15:
        log.append(run_completed(run_id) if choose.random() < 0.5 else run_failed(run_id))
        del open_runs[run_id]
        return
    log.append(started(run_id, step))
    if choose.random() < 0.3:
        log.append(attempt_failed(run_id, step, next_at=START_MS))
        log.append(started(run_id, step, 2))
        log.append(step_completed(run_id, step, 2))
    else:
        log.append(step_completed(run_id, step))
    open_runs[run_id] = number + 1
