"""The facts: one class for each kind of record in a history topic.

The names, and the fields with their order, are those of the Avro schemas
(`stepfold_topics/schemas/<Kind>.avsc`); a test keeps the two alike. The envelope
(epoch, seq, at, tenant) is not here: the shard adds it, and `Recorded` carries it.
Times are broker time in milliseconds since 1970. A payload is three fields: the
bytes, their encoding (`json`, or `none` where there is no value), and the id of the
key when they are sealed (empty: they are not).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from stepfold.core.ids import Epoch, Position

FOLD_VERSION = 1
"""Raised when a history folds differently than before."""


class RunStart(NamedTuple):
    """One of the runs that a trigger starts."""

    run_id: str
    workflow: str
    def_hash: str
    tenant: str
    idempotency_key: str
    deadline: int  # 0: none


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardOpened:
    app: str
    history_topic_id: str
    inbox_topic_id: str
    control_topic_id: str
    partitions: int
    fold_version: int
    created_by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Claimed:
    """Takes the shard over, if `prev_epoch` is the epoch in force here; has no seq."""

    prev_epoch_offset: int
    prev_epoch_nonce: int
    nonce: int
    worker_id: str
    host: str
    pid: int
    build: str
    fold_version: int
    closes_last_seq: int
    closes_last_offset: int
    unsafe: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Drained:
    reason: str
    open_attempts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class IntakeOpened:
    topic: str
    topic_id: str
    partition: int
    start_offset: int


@dataclass(frozen=True, slots=True, kw_only=True)
class IntakeGap:
    topic: str
    topic_id: str
    partition: int
    from_offset: int
    to_offset: int


@dataclass(frozen=True, slots=True, kw_only=True)
class IntakeUnmatched:
    """Source records up to `source` that started nothing; `from_offset` is the first of them."""

    source: Position
    from_offset: int


@dataclass(frozen=True, slots=True, kw_only=True)
class IntakeRejected:
    """A source record that could not be read, or had nothing to act on."""

    source: Position
    run_id: str
    reason: str
    dlq_topic: str  # empty: the record was readable, and is not in a DLQ
    dlq_partition: int
    dlq_offset: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RunAccepted:
    """A trigger became one or several runs; its payload is the whole event, held once."""

    source: Position
    run_id: str
    app: str
    event_name: str
    event_id: str
    payload: bytes
    payload_encoding: str
    key_id: str
    runs: tuple[RunStart, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunDeduplicated:
    source: Position
    run_id: str  # the one that the trigger would have started
    idempotency_key: str
    existing_run_id: str


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
    """The process that ran the attempt is gone; not a failure of the step."""

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


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFailed:
    run_id: str
    error_type: str
    error_message: str
    error_stack: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RunCancelled:
    run_id: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RunParked:
    """The run stands still until someone acts; nothing of it is lost."""

    run_id: str
    reason: str  # poison | definition_changed
    message: str
    step: str
    lost: int
    failed: int


ShardEvent: TypeAlias = (
    ShardOpened | Claimed | Drained | IntakeOpened | IntakeGap | IntakeUnmatched | IntakeRejected
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
)


class Recorded(NamedTuple):
    """An event as the log holds it. For a claim, `seq` is -1 and `epoch` is NO_EPOCH."""

    offset: int
    epoch: Epoch
    seq: int
    at: int
    event: Event
