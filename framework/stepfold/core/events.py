"""The facts: one class for each kind of record in a history topic.

The names, and the fields with their order, are those of the Avro schemas
(`stepfold_topics/schemas/<Kind>.avsc`); a test keeps the two alike. The envelope
(epoch, seq, at, tenant) is not here: the shard adds it, and `Recorded` carries it.
Times are broker time in milliseconds since 1970. A payload is three fields: the
bytes, their encoding (`json`, or `none` where there is no value), and the id of the
key when they are sealed (empty: they are not).
"""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

from stepfold.core.ids import Epoch
from stepfold.core.run_events import (
    AttemptCancelled,
    AttemptFailed,
    AttemptLost,
    AttemptStarted,
    AttemptTimedOut,
    CancelRequested,
    ChildRequested,
    ChildResolved,
    EventSent,
    RunCancelled,
    RunCompleted,
    RunFailed,
    RunParked,
    RunPaused,
    RunResumed,
    SignalBuffered,
    SignalExpired,
    StepCompleted,
    TimerCancelled,
    TimerFired,
    TimerSet,
    WaitExpired,
    WaitOpened,
    WaitResolved,
)
from stepfold.core.shard_events import (
    NO_PARENT,
    NOWHERE,
    CheckpointBegin,
    CheckpointEnd,
    Claimed,
    Drained,
    IntakeGap,
    IntakeOpened,
    IntakeRejected,
    IntakeUnmatched,
    Origin,
    Out,
    OutboxAcked,
    Parent,
    RunAccepted,
    RunDeduplicated,
    RunSnapshot,
    RunStart,
    ShardOpened,
    ShardSnapshot,
)

FOLD_VERSION = 1
"""Raised when a history folds differently than before."""

ShardEvent: TypeAlias = (
    ShardOpened
    | Claimed
    | Drained
    | IntakeOpened
    | IntakeGap
    | IntakeUnmatched
    | IntakeRejected
    | OutboxAcked
    | CheckpointBegin
    | RunSnapshot
    | ShardSnapshot
    | CheckpointEnd
)
RunEvent: TypeAlias = (
    AttemptStarted
    | AttemptFailed
    | AttemptTimedOut
    | AttemptCancelled
    | AttemptLost
    | StepCompleted
    | TimerSet
    | TimerFired
    | TimerCancelled
    | WaitOpened
    | WaitResolved
    | WaitExpired
    | SignalBuffered
    | SignalExpired
    | CancelRequested
    | RunPaused
    | RunResumed
    | RunCompleted
    | RunFailed
    | RunCancelled
    | RunParked
    | ChildRequested
    | ChildResolved
    | EventSent
)
Event: TypeAlias = ShardEvent | RunEvent | RunAccepted | RunDeduplicated

EVENT_TYPES: tuple[type[Event], ...] = (
    ShardOpened,
    Claimed,
    Drained,
    IntakeOpened,
    IntakeGap,
    IntakeUnmatched,
    IntakeRejected,
    RunAccepted,
    RunDeduplicated,
    AttemptStarted,
    AttemptFailed,
    AttemptTimedOut,
    AttemptCancelled,
    AttemptLost,
    StepCompleted,
    TimerSet,
    TimerFired,
    TimerCancelled,
    WaitOpened,
    WaitResolved,
    WaitExpired,
    SignalBuffered,
    SignalExpired,
    CancelRequested,
    RunPaused,
    RunResumed,
    RunCompleted,
    RunFailed,
    RunCancelled,
    RunParked,
    ChildRequested,
    ChildResolved,
    EventSent,
    OutboxAcked,
    CheckpointBegin,
    RunSnapshot,
    ShardSnapshot,
    CheckpointEnd,
)


class Recorded(NamedTuple):
    """An event as the log holds it. For a claim, `seq` is -1 and `epoch` is NO_EPOCH."""

    offset: int
    epoch: Epoch
    seq: int
    at: int
    event: Event


__all__ = [
    "EVENT_TYPES",
    "FOLD_VERSION",
    "NOWHERE",
    "NO_PARENT",
    "AttemptCancelled",
    "AttemptFailed",
    "AttemptLost",
    "AttemptStarted",
    "AttemptTimedOut",
    "CancelRequested",
    "CheckpointBegin",
    "CheckpointEnd",
    "ChildRequested",
    "ChildResolved",
    "Claimed",
    "Drained",
    "Event",
    "EventSent",
    "IntakeGap",
    "IntakeOpened",
    "IntakeRejected",
    "IntakeUnmatched",
    "Origin",
    "Out",
    "OutboxAcked",
    "Parent",
    "Recorded",
    "RunAccepted",
    "RunCancelled",
    "RunCompleted",
    "RunDeduplicated",
    "RunEvent",
    "RunFailed",
    "RunParked",
    "RunPaused",
    "RunResumed",
    "RunSnapshot",
    "RunStart",
    "ShardEvent",
    "ShardOpened",
    "ShardSnapshot",
    "SignalBuffered",
    "SignalExpired",
    "StepCompleted",
    "TimerCancelled",
    "TimerFired",
    "TimerSet",
    "WaitExpired",
    "WaitOpened",
    "WaitResolved",
]
