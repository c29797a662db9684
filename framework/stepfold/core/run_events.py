"""Facts about one run: what happened to its steps, timers, waits, children and itself."""

from __future__ import annotations

from dataclasses import dataclass

from stepfold.core.ids import Position
from stepfold.core.shard_events import NOWHERE, Origin, Out


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptStarted:
    run_id: str
    step: str
    attempt: int
    token: str
    payload: bytes  # the input, with the first attempt only
    payload_encoding: str
    key_id: str
    timeout_at: int  # 0: none
    isolated: bool
    worker_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptFailed:
    run_id: str
    step: str
    attempt: int
    error_type: str
    error_message: str
    error_stack: str
    retryable: bool
    next_at: int  # 0: no further attempt, the step failed
    took_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptTimedOut:
    run_id: str
    step: str
    attempt: int
    reason: str
    next_at: int  # 0: no further attempt, the step failed
    took_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptCancelled:
    run_id: str
    step: str
    attempt: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptLost:
    """The process that ran the attempt is gone; not a failure of the step.

    lost: losses that are held against the step so far. One that it cannot have caused is not.
    """

    run_id: str
    step: str
    attempt: int
    lost: int
    prev_epoch_offset: int
    prev_epoch_nonce: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StepCompleted:
    run_id: str
    step: str
    attempt: int
    payload: bytes
    payload_encoding: str
    key_id: str
    took_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TimerSet:
    run_id: str
    timer_id: str
    due: int
    purpose: str  # sleep | timer


@dataclass(frozen=True, slots=True, kw_only=True)
class TimerFired:
    run_id: str
    timer_id: str
    due: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TimerCancelled:
    run_id: str
    timer_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitOpened:
    run_id: str
    wait_id: str
    kind: str  # signal | definition
    name: str
    expires_at: int  # 0: never


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitResolved:
    """A wait ended: by a control record (`source`), or by one that was buffered before."""

    source: Position
    run_id: str
    wait_id: str
    signal_id: str
    payload: bytes
    payload_encoding: str
    key_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitExpired:
    run_id: str
    wait_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SignalBuffered:
    """A signal that nobody waits for yet, or whose run is not accepted yet."""

    source: Position
    run_id: str
    signal_id: str
    name: str
    payload: bytes
    payload_encoding: str
    key_id: str
    ttl_at: int  # 0: as long as the run lasts


@dataclass(frozen=True, slots=True, kw_only=True)
class SignalExpired:
    run_id: str
    signal_id: str
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelRequested:
    source: Position
    run_id: str
    by: str
    reason: str
    origin: Origin = NOWHERE


@dataclass(frozen=True, slots=True, kw_only=True)
class RunPaused:
    source: Position
    run_id: str
    by: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResumed:
    source: Position
    run_id: str
    by: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RunCompleted:
    run_id: str
    payload: bytes
    payload_encoding: str
    key_id: str
    out: tuple[Out, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFailed:
    run_id: str
    error_type: str
    error_message: str
    error_stack: str
    out: tuple[Out, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RunCancelled:
    run_id: str
    reason: str
    out: tuple[Out, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RunParked:
    """The run stands still until someone acts; nothing of it is lost."""

    run_id: str
    reason: str  # poison | definition_changed
    message: str
    step: str
    lost: int
    failed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildRequested:
    """A run started another one; `out` holds its start."""

    run_id: str
    step: str
    child_run_id: str
    app: str
    workflow: str
    payload: bytes
    payload_encoding: str
    key_id: str
    is_awaited: bool
    expires_at: int  # 0: never
    out: tuple[Out, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildResolved:
    """A child that is awaited ended, or is awaited no more; then `out` may cancel it."""

    source: Position
    run_id: str
    step: str
    outcome: str  # completed | failed | cancelled | timed_out | abandoned
    payload: bytes
    payload_encoding: str
    key_id: str
    error_type: str
    error_message: str
    origin: Origin = NOWHERE
    out: tuple[Out, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class EventSent:
    """A run sent an event to an app's inbox; `out` holds it."""

    run_id: str
    step: str
    app: str
    event_name: str
    event_id: str
    out: tuple[Out, ...] = ()
