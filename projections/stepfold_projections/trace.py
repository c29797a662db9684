"""The trace of one run, folded from all of its events: what a person debugs with.

Every step with each of its attempts, every wait and sleep, inputs, outputs, errors,
durations, and the place of each fact in Kafka. Pure: a trace as of an earlier offset is
the fold of fewer events.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, TypeAlias, cast

from stepfold.core import events as e
from stepfold_projections.runs import RunRow, apply, note_epoch, rows_of

AttemptStatus: TypeAlias = Literal[
    "running", "completed", "failed", "timed_out", "cancelled", "lost"
]
StepStatus: TypeAlias = Literal["running", "backoff", "completed", "failed", "cancelled"]
WaitStatus: TypeAlias = Literal["open", "resolved", "expired"]
TimerStatus: TypeAlias = Literal["set", "fired", "cancelled"]


class Failure(NamedTuple):
    type: str
    message: str
    stack: str


@dataclass(slots=True)
class AttemptTrace:
    number: int
    started_at: int
    offset: int
    worker_id: str
    status: AttemptStatus = "running"
    ended_at: int = 0
    end_offset: int = -1
    took_ms: int | None = None
    error: Failure | None = None
    is_retryable: bool | None = None
    next_at: int = 0


@dataclass(slots=True)
class StepTrace:
    step: str
    started_at: int
    input: bytes
    status: StepStatus = "running"
    ended_at: int = 0
    output: bytes = b""
    attempts: list[AttemptTrace] = field(default_factory=list[AttemptTrace])

    @property
    def error(self) -> Failure | None:
        """Of the last attempt that failed, unless the step completed after all."""
        if self.status == "completed" or not self.attempts:
            return None
        return next((a.error for a in reversed(self.attempts) if a.error is not None), None)


@dataclass(slots=True)
class WaitTrace:
    wait_id: str
    kind: str
    name: str
    opened_at: int
    expires_at: int
    status: WaitStatus = "open"
    ended_at: int = 0
    value: bytes = b""
    error: Failure | None = None


@dataclass(slots=True)
class TimerTrace:
    timer_id: str
    purpose: str
    set_at: int
    due: int
    status: TimerStatus = "set"
    ended_at: int = 0


@dataclass(slots=True)
class SignalTrace:
    """A signal that came before anybody waited for it."""

    signal_id: str
    name: str
    at: int
    value: bytes
    status: Literal["buffered", "delivered", "expired"] = "buffered"


class Request(NamedTuple):
    """A cancel, pause or resume: who asked for it, and why."""

    kind: Literal["cancel", "pause", "resume"]
    at: int
    by: str
    reason: str


class Rejection(NamedTuple):
    """A signal or request that the run's owner did not take, and why."""

    at: int
    offset: int
    reason: str


@dataclass(slots=True)
class RunTrace:
    row: RunRow
    accepted: e.RunAccepted
    input: bytes
    output: bytes = b""
    error: Failure | None = None
    steps: dict[str, StepTrace] = field(default_factory=dict[str, StepTrace])
    waits: dict[str, WaitTrace] = field(default_factory=dict[str, WaitTrace])
    timers: dict[str, TimerTrace] = field(default_factory=dict[str, TimerTrace])
    signals: dict[str, SignalTrace] = field(default_factory=dict[str, SignalTrace])
    requests: list[Request] = field(default_factory=list[Request])
    rejections: list[Rejection] = field(default_factory=list[Rejection])


def trace_of(run_id: str, records: Sequence[e.Recorded], partition: int) -> RunTrace | None:
    """records: the run's events in the order of the log; None if it is not accepted in them.

    Signals and cancels that came before the run was accepted count from the acceptance on.
    """
    start = next((r for r in records if isinstance(r.event, e.RunAccepted)), None)
    if start is None:
        return None
    accepted = cast("e.RunAccepted", start.event)
    rows = rows_of(accepted, partition=partition, offset=start.offset, at=start.at)
    row = next(row for row in rows if row.run_id == run_id)
    note_epoch(row, start.epoch, start.seq)
    trace = RunTrace(row, accepted, accepted.payload)
    for record in records:
        if record is start:
            continue
        if isinstance(record.event, e.IntakeRejected):
            reason = record.event.reason
            trace.rejections.append(Rejection(record.at, record.offset, reason))
            continue
        event = cast("e.RunEvent", record.event)
        apply(row, event, offset=record.offset, at=record.at, epoch=record.epoch, seq=record.seq)
        tell = _TELL.get(type(event))
        if tell is not None:
            tell(trace, event, record)
    return trace


def _started(trace: RunTrace, event: e.AttemptStarted, record: e.Recorded) -> None:
    step = trace.steps.get(event.step)
    if step is None:
        step = trace.steps[event.step] = StepTrace(event.step, record.at, event.payload)
    step.status = "running"
    step.attempts.append(AttemptTrace(event.attempt, record.at, record.offset, event.worker_id))


def _completed(trace: RunTrace, event: e.StepCompleted, record: e.Recorded) -> None:
    step, attempt = _end_attempt(trace, event, record, "completed")
    attempt.took_ms = event.took_ms
    step.status, step.ended_at, step.output = "completed", record.at, event.payload


def _failed(trace: RunTrace, event: e.AttemptFailed, record: e.Recorded) -> None:
    step, attempt = _end_attempt(trace, event, record, "failed")
    attempt.error = Failure(event.error_type, event.error_message, event.error_stack)
    attempt.is_retryable = event.retryable
    _tried_in_vain(step, attempt, event, record)


def _timed_out(trace: RunTrace, event: e.AttemptTimedOut, record: e.Recorded) -> None:
    step, attempt = _end_attempt(trace, event, record, "timed_out")
    attempt.error = Failure("StepTimeout", event.reason, "")
    attempt.is_retryable = True
    _tried_in_vain(step, attempt, event, record)


def _tried_in_vain(
    step: StepTrace,
    attempt: AttemptTrace,
    event: e.AttemptFailed | e.AttemptTimedOut,
    record: e.Recorded,
) -> None:
    attempt.took_ms = event.took_ms
    attempt.next_at = event.next_at
    step.status = "backoff" if event.next_at else "failed"
    step.ended_at = 0 if event.next_at else record.at


def _cancelled(trace: RunTrace, event: e.AttemptCancelled, record: e.Recorded) -> None:
    step = trace.steps.get(event.step)
    if step is not None and step.attempts[-1].status == "running":
        attempt = _end_attempt(trace, event, record, "cancelled")[1]
        attempt.error = Failure("Cancelled", event.reason, "")
    if step is not None:
        step.status, step.ended_at = "cancelled", record.at


def _lost(trace: RunTrace, event: e.AttemptLost, record: e.Recorded) -> None:
    step, attempt = _end_attempt(trace, event, record, "lost")
    attempt.error = Failure("AttemptLost", "the process that ran it is gone", "")
    step.status = "backoff"


AttemptEnd: TypeAlias = (
    e.StepCompleted | e.AttemptFailed | e.AttemptTimedOut | e.AttemptCancelled | e.AttemptLost
)


def _end_attempt(
    trace: RunTrace, event: AttemptEnd, record: e.Recorded, status: AttemptStatus
) -> tuple[StepTrace, AttemptTrace]:
    step = trace.steps[event.step]
    attempt = next(a for a in reversed(step.attempts) if a.number == event.attempt)
    attempt.status, attempt.ended_at, attempt.end_offset = status, record.at, record.offset
    return step, attempt


def _timer_set(trace: RunTrace, event: e.TimerSet, record: e.Recorded) -> None:
    trace.timers[event.timer_id] = TimerTrace(event.timer_id, event.purpose, record.at, event.due)


def _timer_fired(trace: RunTrace, event: e.TimerFired, record: e.Recorded) -> None:
    timer = trace.timers.get(event.timer_id)
    if timer is None:  # a timer of the workflow's loop that was never worth an event
        timer = TimerTrace(event.timer_id, "timer", record.at, event.due)
        trace.timers[event.timer_id] = timer
    timer.status, timer.ended_at = "fired", record.at


def _timer_cancelled(trace: RunTrace, event: e.TimerCancelled, record: e.Recorded) -> None:
    timer = trace.timers[event.timer_id]
    timer.status, timer.ended_at = "cancelled", record.at


def _wait_opened(trace: RunTrace, event: e.WaitOpened, record: e.Recorded) -> None:
    trace.waits[event.wait_id] = WaitTrace(
        event.wait_id, event.kind, event.name, record.at, event.expires_at
    )


def _wait_resolved(trace: RunTrace, event: e.WaitResolved, record: e.Recorded) -> None:
    wait = trace.waits[event.wait_id]
    wait.status, wait.ended_at, wait.value = "resolved", record.at, event.payload
    signal = trace.signals.get(event.signal_id)
    if signal is not None:
        signal.status = "delivered"


def _wait_expired(trace: RunTrace, event: e.WaitExpired, record: e.Recorded) -> None:
    wait = trace.waits[event.wait_id]
    wait.status, wait.ended_at = "expired", record.at


def _child_requested(trace: RunTrace, event: e.ChildRequested, record: e.Recorded) -> None:
    """A child is a wait by the name of its run; one that nobody waits for is over at once."""
    wait = WaitTrace(event.step, "child", event.child_run_id, record.at, event.expires_at)
    if not event.is_awaited:
        wait.status, wait.ended_at = "resolved", record.at
    trace.waits[event.step] = wait


def _child_resolved(trace: RunTrace, event: e.ChildResolved, record: e.Recorded) -> None:
    wait = trace.waits.get(event.step)
    if wait is None:  # it could not be asked for
        wait = trace.waits[event.step] = WaitTrace(event.step, "child", "", record.at, 0)
    if wait.status == "open":
        is_in_vain = event.outcome in ("timed_out", "abandoned")
        wait.status = "expired" if is_in_vain else "resolved"
        wait.ended_at, wait.value = record.at, event.payload
        if event.error_type:
            wait.error = Failure(event.error_type, event.error_message, "")


def _event_sent(trace: RunTrace, event: e.EventSent, record: e.Recorded) -> None:
    trace.waits[event.step] = WaitTrace(
        event.step, "event", event.event_name, record.at, 0, "resolved", record.at
    )


def _buffered(trace: RunTrace, event: e.SignalBuffered, record: e.Recorded) -> None:
    trace.signals[event.signal_id] = SignalTrace(
        event.signal_id, event.name, record.at, event.payload
    )


def _signal_expired(trace: RunTrace, event: e.SignalExpired, record: e.Recorded) -> None:
    signal = trace.signals.get(event.signal_id)
    if signal is not None:
        signal.status = "expired"


def _cancel_requested(trace: RunTrace, event: e.CancelRequested, record: e.Recorded) -> None:
    trace.requests.append(Request("cancel", record.at, event.by, event.reason))


def _paused(trace: RunTrace, event: e.RunPaused, record: e.Recorded) -> None:
    trace.requests.append(Request("pause", record.at, event.by, event.reason))


def _resumed(trace: RunTrace, event: e.RunResumed, record: e.Recorded) -> None:
    trace.requests.append(Request("resume", record.at, event.by, event.reason))
    trace.error = None


def _run_completed(trace: RunTrace, event: e.RunCompleted, record: e.Recorded) -> None:
    trace.output = event.payload


def _run_failed(trace: RunTrace, event: e.RunFailed, record: e.Recorded) -> None:
    trace.error = Failure(event.error_type, event.error_message, event.error_stack)


def _parked(trace: RunTrace, event: e.RunParked, record: e.Recorded) -> None:
    trace.error = Failure(event.reason, event.message, "")


_TELL: dict[type[e.RunEvent], Callable[[RunTrace, Any, e.Recorded], None]] = {
    e.AttemptStarted: _started,
    e.StepCompleted: _completed,
    e.AttemptFailed: _failed,
    e.AttemptTimedOut: _timed_out,
    e.AttemptCancelled: _cancelled,
    e.AttemptLost: _lost,
    e.TimerSet: _timer_set,
    e.TimerFired: _timer_fired,
    e.TimerCancelled: _timer_cancelled,
    e.WaitOpened: _wait_opened,
    e.WaitResolved: _wait_resolved,
    e.WaitExpired: _wait_expired,
    e.SignalBuffered: _buffered,
    e.SignalExpired: _signal_expired,
    e.CancelRequested: _cancel_requested,
    e.RunPaused: _paused,
    e.RunResumed: _resumed,
    e.RunCompleted: _run_completed,
    e.RunFailed: _run_failed,
    e.RunParked: _parked,
    e.ChildRequested: _child_requested,
    e.ChildResolved: _child_resolved,
    e.EventSent: _event_sent,
}
