"""Facts about a shard as a whole, and about what its intake made of source records."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from stepfold.core.commands import Delivered, Trigger
from stepfold.core.ids import Position


class Out(NamedTuple):
    """An intent to deliver something to another shard, as part of the event that decided it.

    target: the topic partition it goes to, such as `research.control/3`. n: numbers the
    intents for that target from 1 on, without gaps.
    """

    target: str
    n: int
    body: Delivered | Trigger


class Origin(NamedTuple):
    """Of a delivery: the shard it came from and its number there; NOWHERE: it was none."""

    shard: str
    n: int


NOWHERE = Origin("", 0)


class Parent(NamedTuple):
    """Who started a child run; `step` is empty where nobody waits for its result."""

    shard: str
    run_id: str
    step: str


NO_PARENT = Parent("", "", "")


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
    origin: Origin = NOWHERE


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
    origin: Origin = NOWHERE
    parent: Parent = NO_PARENT


@dataclass(frozen=True, slots=True, kw_only=True)
class RunDeduplicated:
    source: Position
    run_id: str  # the one that the trigger would have started
    idempotency_key: str
    existing_run_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboxAcked:
    """Kafka has all intents for the target up to this number; they are not sent again."""

    target: str
    upto: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointBegin:
    """Runs whose last full record is before this offset are written anew (rule R22)."""

    lwm_target: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSnapshot:
    """A part of a run's whole state; with the last part, the first one's offset is its base."""

    run_id: str
    part: int  # from 0
    parts: int
    state: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardSnapshot:
    """A part of what the shard knows besides its runs."""

    part: int  # from 0
    parts: int
    state: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointEnd:
    """A fold may begin at `lwm`: behind it is a full record of all that is open here."""

    lwm: int
    shard_snapshot_offset: int
    runs_written: int
    state_bytes: int
