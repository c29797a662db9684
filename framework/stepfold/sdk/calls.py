"""The two sides of an activation: outcomes go in, and these come out.

`Workflow code runs until it blocks` is turned into data here: what it newly called,
what it gave up waiting for, which timers of its loop are set, and how it ended.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from stepfold.core.outcomes import (
    ChildErrored,
    ChildReturned,
    Outcome,
    SignalArrived,
    StepErrored,
    StepSucceeded,
    TimerElapsed,
    WaitTimedOut,
)
from stepfold.core.retry import Retry


@dataclass(frozen=True, slots=True, kw_only=True)
class StepCall:
    """A step was called. `encode_input` and `encode_result` raise PayloadError."""

    step: str
    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    retry: Retry
    timeout_ms: int | None
    encode_input: Callable[[], bytes]
    encode_result: Callable[[Any], bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class SleepCall:
    timer_id: str
    due: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SignalCall:
    """Waits for a signal; expires_at 0: for ever."""

    wait_id: str
    name: str
    expires_at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildCall:
    """Starts another run; app is empty for the run's own. `encode_input` raises PayloadError."""

    step: str
    app: str
    workflow: str
    encode_input: Callable[[], bytes]
    is_awaited: bool
    expires_at: int  # 0: never


@dataclass(frozen=True, slots=True, kw_only=True)
class EventCall:
    """Sends an event; app is empty for the run's own. `encode_data` raises PayloadError."""

    step: str
    app: str
    name: str
    event_id: str
    key: str
    encode_data: Callable[[], bytes]


Call: TypeAlias = StepCall | SleepCall | SignalCall | ChildCall | EventCall


ANSWERS: dict[type[Outcome], tuple[type[Call], ...]] = {
    StepSucceeded: (StepCall,),
    StepErrored: (StepCall,),
    TimerElapsed: (SleepCall,),
    SignalArrived: (SignalCall,),
    WaitTimedOut: (SignalCall,),
    ChildReturned: (ChildCall, EventCall),
    ChildErrored: (ChildCall, EventCall),
}
"""Which calls an outcome can answer."""
WORDS: dict[type[Call], str] = {
    StepCall: "a step",
    SleepCall: "a sleep",
    SignalCall: "a wait for a signal",
    ChildCall: "a child run",
    EventCall: "an event that is sent",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Completed:
    payload: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Errored:
    error_type: str
    error_message: str
    error_stack: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Cancelled:
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Parked:
    """A recorded result does not fit the code any more: DefinitionChanged."""

    step: str
    message: str


End: TypeAlias = Completed | Errored | Cancelled | Parked


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """What one activation brought.

    calls: new ones, in the order made, without those a recorded outcome answered at
    once. abandoned: step, timer and wait ids that the code stopped waiting for.
    timers: all timers now pending on the run's loop (asyncio.sleep, timeout): id to due.
    """

    calls: tuple[Call, ...] = ()
    abandoned: tuple[str, ...] = ()
    timers: Mapping[str, int] = field(default_factory=dict[str, int])
    end: End | None = None
