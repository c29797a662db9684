"""A run as one row: what lists, filters and alerts need of it, folded event by event.

The row holds what is open right now (attempts, back-offs, timers, waits) and counters
of what was; the full story is folded from the run's events when somebody asks for it
(`trace`). Pure: the same events give the same row, whenever and wherever.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, TypeAlias

from stepfold.core import events as e
from stepfold.core.ids import Epoch

Status: TypeAlias = Literal[
    "queued",
    "running",
    "sleeping",
    "waiting",
    "backoff",
    "paused",
    "parked",
    "completed",
    "failed",
    "cancelled",
]
STATUSES: tuple[Status, ...] = (
    "queued",
    "running",
    "sleeping",
    "waiting",
    "backoff",
    "paused",
    "parked",
    "completed",
    "failed",
    "cancelled",
)
ERROR_EXCERPT_MAX = 2_000
"""Characters of an error that the row keeps for search; the events keep all of it."""


class OpenWait(NamedTuple):
    kind: str  # signal | child | definition
    name: str
    expires_at: int  # 0: never


@dataclass(slots=True)
class RunRow:
    """Times are broker time in milliseconds; 0 means: not yet, or never."""

    run_id: str
    app: str
    workflow: str
    partition: int
    tenant: str
    def_hash: str
    event_name: str
    event_id: str
    idempotency_key: str
    accepted_at: int
    accepted_offset: int
    status: Status = "queued"
    is_paused: bool = False
    started_at: int = 0
    ended_at: int = 0
    updated_at: int = 0
    last_offset: int = 0
    last_epoch_offset: int = -1
    last_epoch_nonce: int = 0
    last_seq: int = -1
    steps: int = 0
    steps_completed: int = 0
    attempts: int = 0
    failures: int = 0
    losses: int = 0
    error_type: str = ""
    error_message: str = ""
    reason: str = ""
    deadline: int = 0
    due_at: int | None = None
    """When something has to happen at the latest; None: nobody knows, or the run is over."""
    open_attempts: dict[str, int] = field(default_factory=dict[str, int])
    backoffs: dict[str, int] = field(default_factory=dict[str, int])
    timers: dict[str, int] = field(default_factory=dict[str, int])
    waits: dict[str, OpenWait] = field(default_factory=dict[str, OpenWait])

    @property
    def is_over(self) -> bool:
        return self.ended_at > 0


def rows_of(event: e.RunAccepted, *, partition: int, offset: int, at: int) -> list[RunRow]:
    """The rows of all runs that a trigger started."""
    return [
        RunRow(
            run_id=start.run_id,
            app=event.app,
            workflow=start.workflow,
            partition=partition,
            tenant=start.tenant,
            def_hash=start.def_hash,
            event_name=event.event_name,
            event_id=event.event_id,
            idempotency_key=start.idempotency_key,
            accepted_at=at,
            accepted_offset=offset,
            updated_at=at,
            last_offset=offset,
            deadline=start.deadline,
            due_at=at,
        )
        for start in event.runs
    ]


def apply(row: RunRow, event: e.RunEvent, *, offset: int, at: int, epoch: Epoch, seq: int) -> None:
    """Take the run's next event."""
    _APPLY[type(event)](row, event, at)
    row.updated_at = at
    row.last_offset = offset
    row.last_epoch_offset, row.last_epoch_nonce = epoch
    row.last_seq = seq
    row.status = _status(row)
    row.due_at = _due_at(row)


def note_epoch(row: RunRow, epoch: Epoch, seq: int) -> None:
    """Of the event that accepted the run."""
    row.last_epoch_offset, row.last_epoch_nonce = epoch
    row.last_seq = seq


def _status(row: RunRow) -> Status:
    if row.is_over or row.status == "parked":
        return row.status
    if row.is_paused:
        return "paused"
    if row.open_attempts:
        return "running"
    if row.backoffs:
        return "backoff"
    if row.waits:
        return "waiting"
    if row.timers:
        return "sleeping"
    return "running" if row.started_at else "queued"


def _due_at(row: RunRow) -> int | None:
    if row.is_over or row.status in ("parked", "paused"):
        return None
    due = [*row.timers.values(), *row.backoffs.values()]
    due += [wait.expires_at for wait in row.waits.values() if wait.expires_at]
    if row.deadline:
        due.append(row.deadline)
    if due:
        return min(due)
    return None if row.open_attempts or row.waits else row.updated_at


def _started(row: RunRow, event: e.AttemptStarted, at: int) -> None:
    row.attempts += 1
    if event.attempt == 1:
        row.steps += 1
    row.started_at = row.started_at or at
    row.backoffs.pop(event.step, None)
    row.open_attempts[event.step] = event.attempt


def _completed(row: RunRow, event: e.StepCompleted, at: int) -> None:
    row.steps_completed += 1
    row.open_attempts.pop(event.step, None)


def _attempt_failed(row: RunRow, event: e.AttemptFailed, at: int) -> None:
    _note_error(row, event.error_type, event.error_message)
    _tried_in_vain(row, event)


def _attempt_timed_out(row: RunRow, event: e.AttemptTimedOut, at: int) -> None:
    _note_error(row, "StepTimeout", event.reason)
    _tried_in_vain(row, event)


def _tried_in_vain(row: RunRow, event: e.AttemptFailed | e.AttemptTimedOut) -> None:
    row.failures += 1
    row.open_attempts.pop(event.step, None)
    if event.next_at:
        row.backoffs[event.step] = event.next_at


def _attempt_lost(row: RunRow, event: e.AttemptLost, at: int) -> None:
    row.losses += 1
    row.open_attempts.pop(event.step, None)
    row.backoffs[event.step] = at


def _attempt_cancelled(row: RunRow, event: e.AttemptCancelled, at: int) -> None:
    row.open_attempts.pop(event.step, None)
    row.backoffs.pop(event.step, None)


def _timer_set(row: RunRow, event: e.TimerSet, at: int) -> None:
    row.started_at = row.started_at or at
    row.timers[event.timer_id] = event.due


def _timer_ended(row: RunRow, event: e.TimerFired | e.TimerCancelled, at: int) -> None:
    row.timers.pop(event.timer_id, None)


def _wait_opened(row: RunRow, event: e.WaitOpened, at: int) -> None:
    if event.kind != "definition":
        row.started_at = row.started_at or at
    row.waits[event.wait_id] = OpenWait(event.kind, event.name, event.expires_at)


def _wait_ended(row: RunRow, event: e.WaitResolved | e.WaitExpired, at: int) -> None:
    row.waits.pop(event.wait_id, None)


def _child_requested(row: RunRow, event: e.ChildRequested, at: int) -> None:
    row.started_at = row.started_at or at
    if event.is_awaited:
        row.waits[event.step] = OpenWait("child", event.child_run_id, event.expires_at)


def _child_resolved(row: RunRow, event: e.ChildResolved, at: int) -> None:
    row.waits.pop(event.step, None)


def _event_sent(row: RunRow, event: e.EventSent, at: int) -> None:
    row.started_at = row.started_at or at


def _cancel_requested(row: RunRow, event: e.CancelRequested, at: int) -> None:
    row.reason = event.reason


def _paused(row: RunRow, event: e.RunPaused, at: int) -> None:
    row.is_paused = True
    row.reason = event.reason


def _resumed(row: RunRow, event: e.RunResumed, at: int) -> None:
    row.is_paused = False
    row.reason = ""
    if row.status == "parked":
        row.status = "running"


def _parked(row: RunRow, event: e.RunParked, at: int) -> None:
    row.status = "parked"
    row.reason = event.reason
    _note_error(row, event.reason, event.message)


def _run_completed(row: RunRow, event: e.RunCompleted, at: int) -> None:
    _end(row, "completed", at)
    # Errors of attempts that were tried again are not errors of the run.
    row.error_type = row.error_message = ""


def _run_failed(row: RunRow, event: e.RunFailed, at: int) -> None:
    _end(row, "failed", at)
    _note_error(row, event.error_type, event.error_message)


def _run_cancelled(row: RunRow, event: e.RunCancelled, at: int) -> None:
    _end(row, "cancelled", at)
    row.reason = event.reason


def _end(row: RunRow, status: Status, at: int) -> None:
    row.status = status
    row.ended_at = at
    for opened in (row.open_attempts, row.backoffs, row.timers, row.waits):
        opened.clear()


def _note_error(row: RunRow, error_type: str, message: str) -> None:
    row.error_type = error_type
    row.error_message = message[:ERROR_EXCERPT_MAX]


def _nothing(row: RunRow, event: object, at: int) -> None:
    """Part of the run's story, but not of its row."""


_APPLY: dict[type[e.RunEvent], Callable[[RunRow, Any, int], None]] = {
    e.AttemptStarted: _started,
    e.StepCompleted: _completed,
    e.AttemptFailed: _attempt_failed,
    e.AttemptTimedOut: _attempt_timed_out,
    e.AttemptLost: _attempt_lost,
    e.AttemptCancelled: _attempt_cancelled,
    e.TimerSet: _timer_set,
    e.TimerFired: _timer_ended,
    e.TimerCancelled: _timer_ended,
    e.WaitOpened: _wait_opened,
    e.WaitResolved: _wait_ended,
    e.WaitExpired: _wait_ended,
    e.SignalBuffered: _nothing,
    e.SignalExpired: _nothing,
    e.CancelRequested: _cancel_requested,
    e.RunPaused: _paused,
    e.RunResumed: _resumed,
    e.RunCompleted: _run_completed,
    e.RunFailed: _run_failed,
    e.RunCancelled: _run_cancelled,
    e.RunParked: _parked,
    e.ChildRequested: _child_requested,
    e.ChildResolved: _child_resolved,
    e.EventSent: _event_sent,
}
