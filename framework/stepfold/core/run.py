"""A run as the fold of its events.

`evolve` never refuses: what is in the log happened. It changes the run in place,
because copying the step map at each event made a run of 10,000 steps cost seconds;
the fold owns the run, nobody else holds one while it changes.

Each step, timer and wait is in exactly one state, and `outcomes` lists, in log order,
everything that the workflow's code has to learn.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, NamedTuple

from stepfold.core import events as e
from stepfold.core.ids import NO_EPOCH, Epoch
from stepfold.core.outcomes import (
    CancelAsked,
    ChildErrored,
    ChildReturned,
    Outcome,
    SignalArrived,
    StepErrored,
    StepSucceeded,
    TimerElapsed,
    WaitTimedOut,
)

NO_BASE = -1
"""Of a run that no record holds whole: what came before its acceptance is elsewhere."""


class StepStatus(IntEnum):
    OPEN = 1  # an attempt is started and has no end on the log
    BACKOFF = 2  # the next attempt may start at `next_at`
    COMPLETED = 3
    FAILED = 4
    CANCELLED = 5


class RunStatus(IntEnum):
    OPEN = 1
    PARKED = 2
    COMPLETED = 3
    FAILED = 4
    CANCELLED = 5


@dataclass(slots=True)
class Step:
    status: StepStatus
    attempt: int
    epoch: Epoch
    first_started_at: int
    timeout_at: int = 0
    failed: int = 0
    lost: int = 0
    next_at: int = 0


class Wait(NamedTuple):
    kind: str
    name: str
    expires_at: int


class Child(NamedTuple):
    """A run that a step of this one waits for; target: where its shard takes commands."""

    run_id: str
    target: str
    expires_at: int


class Signal(NamedTuple):
    """A signal that came before anybody waited for it."""

    id: str
    name: str
    payload: bytes
    payload_encoding: str


@dataclass(slots=True)
class Run:
    run_id: str
    app: str
    workflow: str
    def_hash: str
    tenant: str
    event_name: str
    event_id: str
    payload: bytes
    payload_encoding: str
    accepted_at: int
    deadline: int
    parent: e.Parent = e.NO_PARENT
    base: int = NO_BASE
    """Offset of its latest full record: its acceptance, or a snapshot (rule R22)."""
    status: RunStatus = RunStatus.OPEN
    paused: bool = False
    cancel_reason: str | None = None
    outcomes: list[Outcome] = field(default_factory=list[Outcome])
    steps: dict[str, Step] = field(default_factory=dict[str, Step])
    timers: dict[str, int] = field(default_factory=dict[str, int])
    waits: dict[str, Wait] = field(default_factory=dict[str, Wait])
    signals: list[Signal] = field(default_factory=list[Signal])
    children: dict[str, Child] = field(default_factory=dict[str, Child])
    given_up: list[str] = field(default_factory=list[str])
    """Steps whose child is awaited no more; their code has no answer, and may not ask again."""

    @property
    def is_terminal(self) -> bool:
        return self.status >= RunStatus.COMPLETED


def accepted(event: e.RunAccepted, start: e.RunStart, at: int, offset: int = NO_BASE) -> Run:
    """The run as it is when its trigger has been accepted."""
    return Run(
        run_id=start.run_id,
        app=event.app,
        workflow=start.workflow,
        def_hash=start.def_hash,
        tenant=start.tenant,
        event_name=event.event_name,
        event_id=event.event_id,
        payload=event.payload,
        payload_encoding=event.payload_encoding,
        accepted_at=at,
        deadline=start.deadline,
        parent=event.parent,
        base=offset,
    )


def evolve(run: Run, event: e.RunEvent, at: int, epoch: Epoch) -> None:
    """Apply one event of this run; epoch is the one the event was written under."""
    _EVOLVE[type(event)](run, event, at, epoch)


def _attempt_started(run: Run, event: e.AttemptStarted, at: int, epoch: Epoch) -> None:
    step = run.steps.get(event.step)
    if step is None:
        step = Step(StepStatus.OPEN, event.attempt, epoch, at)
        run.steps[event.step] = step
    step.status = StepStatus.OPEN
    step.attempt = event.attempt
    step.epoch = epoch
    step.timeout_at = event.timeout_at


def _step_completed(run: Run, event: e.StepCompleted, at: int, epoch: Epoch) -> None:
    _step(run, event.step, at).status = StepStatus.COMPLETED
    run.outcomes.append(StepSucceeded(at, event.step, event.payload, event.payload_encoding))


def _attempt_failed(run: Run, event: e.AttemptFailed, at: int, epoch: Epoch) -> None:
    _tried_in_vain(run, event, at, (event.error_type, event.error_message, event.error_stack))


def _attempt_timed_out(run: Run, event: e.AttemptTimedOut, at: int, epoch: Epoch) -> None:
    _tried_in_vain(run, event, at, ("StepTimeout", event.reason, ""))


def _tried_in_vain(
    run: Run,
    event: e.AttemptFailed | e.AttemptTimedOut,
    at: int,
    error: tuple[str, str, str],
) -> None:
    step = _step(run, event.step, at)
    step.failed += 1
    if event.next_at:
        step.status = StepStatus.BACKOFF
        step.next_at = event.next_at
    else:
        step.status = StepStatus.FAILED
        run.outcomes.append(StepErrored(at, event.step, event.attempt, *error))


def _attempt_lost(run: Run, event: e.AttemptLost, at: int, epoch: Epoch) -> None:
    step = _step(run, event.step, at)
    step.status = StepStatus.BACKOFF
    step.lost = event.lost
    step.next_at = at + lost_delay_ms(event.lost)


LOST_DELAY_FIRST_MS = 250
LOST_DELAY_MAX_MS = 10_000


def lost_delay_ms(lost: int) -> int:
    """Slow start after lost attempts: none after the first, then 250 ms, doubling, 10 s at most.

    A step that kills its process thus takes its neighbours down ever more rarely.
    """
    if lost <= 1:
        return 0
    return min(LOST_DELAY_FIRST_MS << min(lost - 2, 16), LOST_DELAY_MAX_MS)


def _attempt_cancelled(run: Run, event: e.AttemptCancelled, at: int, epoch: Epoch) -> None:
    _step(run, event.step, at).status = StepStatus.CANCELLED


def _timer_set(run: Run, event: e.TimerSet, at: int, epoch: Epoch) -> None:
    run.timers[event.timer_id] = event.due


def _timer_fired(run: Run, event: e.TimerFired, at: int, epoch: Epoch) -> None:
    run.timers.pop(event.timer_id, None)
    run.outcomes.append(TimerElapsed(max(at, event.due), event.timer_id))


def _timer_cancelled(run: Run, event: e.TimerCancelled, at: int, epoch: Epoch) -> None:
    run.timers.pop(event.timer_id, None)


def _wait_opened(run: Run, event: e.WaitOpened, at: int, epoch: Epoch) -> None:
    run.waits[event.wait_id] = Wait(event.kind, event.name, event.expires_at)


def _wait_resolved(run: Run, event: e.WaitResolved, at: int, epoch: Epoch) -> None:
    wait = run.waits.pop(event.wait_id, None)
    run.signals = [signal for signal in run.signals if signal.id != event.signal_id]
    if wait is None or wait.kind == "signal":
        run.outcomes.append(SignalArrived(at, event.wait_id, event.payload, event.payload_encoding))


def _wait_expired(run: Run, event: e.WaitExpired, at: int, epoch: Epoch) -> None:
    run.waits.pop(event.wait_id, None)
    run.outcomes.append(WaitTimedOut(at, event.wait_id))


def _signal_buffered(run: Run, event: e.SignalBuffered, at: int, epoch: Epoch) -> None:
    run.signals.append(Signal(event.signal_id, event.name, event.payload, event.payload_encoding))


def _signal_expired(run: Run, event: e.SignalExpired, at: int, epoch: Epoch) -> None:
    run.signals = [signal for signal in run.signals if signal.id != event.signal_id]


def _cancel_requested(run: Run, event: e.CancelRequested, at: int, epoch: Epoch) -> None:
    run.cancel_reason = event.reason
    run.outcomes.append(CancelAsked(at, event.reason))


def _child_requested(run: Run, event: e.ChildRequested, at: int, epoch: Epoch) -> None:
    if event.is_awaited:
        run.children[event.step] = Child(event.child_run_id, event.out[0].target, event.expires_at)
    else:
        run.outcomes.append(ChildReturned(at, event.step, _text(event.child_run_id), "json"))


def _child_resolved(run: Run, event: e.ChildResolved, at: int, epoch: Epoch) -> None:
    """A child that ends when it is awaited no more, is none of the code's business."""
    awaited = run.children.pop(event.step, None)
    if awaited is None and event.origin != e.NOWHERE:
        return
    if event.outcome == "completed":
        run.outcomes.append(ChildReturned(at, event.step, event.payload, event.payload_encoding))
    elif event.outcome == "abandoned":
        run.given_up.append(event.step)
    else:
        run.outcomes.append(ChildErrored(at, event.step, event.error_type, event.error_message))


def _event_sent(run: Run, event: e.EventSent, at: int, epoch: Epoch) -> None:
    run.outcomes.append(ChildReturned(at, event.step, _text(event.event_id), "json"))


def _text(value: str) -> bytes:
    return json.dumps(value).encode()


def _paused(run: Run, event: e.RunPaused, at: int, epoch: Epoch) -> None:
    run.paused = True


def _resumed(run: Run, event: e.RunResumed, at: int, epoch: Epoch) -> None:
    run.paused = False
    if run.status is RunStatus.PARKED:
        run.status = RunStatus.OPEN
        for step in run.steps.values():
            step.lost = 0  # whoever resumes it gives it another chance, and not a last one


def _ends(status: RunStatus) -> Callable[[Run, Any, int, Epoch], None]:
    def end(run: Run, event: object, at: int, epoch: Epoch) -> None:
        run.status = status

    return end


def _step(run: Run, step_id: str, at: int) -> Step:
    """The step's state; one that is unknown here began before this fold's first event."""
    step = run.steps.get(step_id)
    if step is None:
        step = Step(StepStatus.OPEN, 0, NO_EPOCH, at)
        run.steps[step_id] = step
    return step


_EVOLVE: dict[type[e.RunEvent], Callable[[Run, Any, int, Epoch], None]] = {
    e.AttemptStarted: _attempt_started,
    e.AttemptFailed: _attempt_failed,
    e.AttemptTimedOut: _attempt_timed_out,
    e.AttemptCancelled: _attempt_cancelled,
    e.AttemptLost: _attempt_lost,
    e.StepCompleted: _step_completed,
    e.TimerSet: _timer_set,
    e.TimerFired: _timer_fired,
    e.TimerCancelled: _timer_cancelled,
    e.WaitOpened: _wait_opened,
    e.WaitResolved: _wait_resolved,
    e.WaitExpired: _wait_expired,
    e.SignalBuffered: _signal_buffered,
    e.SignalExpired: _signal_expired,
    e.CancelRequested: _cancel_requested,
    e.RunPaused: _paused,
    e.RunResumed: _resumed,
    e.RunCompleted: _ends(RunStatus.COMPLETED),
    e.RunFailed: _ends(RunStatus.FAILED),
    e.RunCancelled: _ends(RunStatus.CANCELLED),
    e.RunParked: _ends(RunStatus.PARKED),
    e.ChildRequested: _child_requested,
    e.ChildResolved: _child_resolved,
    e.EventSent: _event_sent,
}
