"""A shard as the fold of its history partition: the only definition of truth.

`Chain` is rule R5: which records count. A record counts if it is a claim that names
the epoch in force, or if it carries that epoch and the next sequence number. All else
is void, for ever and for every reader alike, whoever wrote it and for whatever reason.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, NamedTuple, cast

from stepfold.core import events as e
from stepfold.core.ids import NO_EPOCH, Epoch, Position
from stepfold.core.run import Run, accepted
from stepfold.core.run import evolve as evolve_run

DEDUPLICATION_MS = 24 * 3_600_000
"""How long an idempotency key or event id is remembered, from its first use."""
DEDUPLICATION_KEYS_MAX = 200_000
"""How many are remembered per shard; the oldest go first."""


class Verdict(Enum):
    """What the chain says of a record; only the first two count."""

    APPLIES = "applies"
    CLAIMS = "claims"
    FENCED = "fenced"
    DUPLICATE = "duplicate"
    GAP = "gap"
    VOID_CLAIM = "void_claim"


class Chain:
    """The epoch in force, and the sequence number its next event must carry."""

    __slots__ = ("epoch", "last_offset", "next_seq")

    def __init__(self, epoch: Epoch = NO_EPOCH, next_seq: int = 0, last_offset: int = -1) -> None:
        self.epoch = epoch
        self.next_seq = next_seq
        self.last_offset = last_offset

    def admit(self, record: e.Recorded) -> bool:
        """Take the next record of the log; whether it counts."""
        return self.judge(record) in COUNTS

    def judge(self, record: e.Recorded) -> Verdict:
        event = record.event
        if isinstance(event, e.Claimed):
            if Epoch(event.prev_epoch_offset, event.prev_epoch_nonce) != self.epoch:
                return Verdict.VOID_CLAIM
            self.epoch = Epoch(record.offset, event.nonce)
            self.next_seq = 0
            self.last_offset = record.offset
            return Verdict.CLAIMS
        if record.epoch != self.epoch:
            return Verdict.FENCED
        if record.seq != self.next_seq:
            return Verdict.DUPLICATE if record.seq < self.next_seq else Verdict.GAP
        self.next_seq += 1
        self.last_offset = record.offset
        return Verdict.APPLIES


COUNTS = frozenset({Verdict.APPLIES, Verdict.CLAIMS})


class Accepted(NamedTuple):
    """Where the intake of one source partition stands: the last record dealt with."""

    offset: int
    leader_epoch: int


class Known(NamedTuple):
    """The first run of an idempotency key or event id."""

    run_id: str
    at: int


class Early(NamedTuple):
    event: e.RunEvent
    at: int
    epoch: Epoch


@dataclass(slots=True)
class Shard:
    chain: Chain = field(default_factory=Chain)
    opened: e.ShardOpened | None = None
    unsafe: bool = False
    intake: dict[tuple[str, int], Accepted] = field(default_factory=dict[tuple[str, int], Accepted])
    runs: dict[str, Run] = field(default_factory=dict[str, Run])
    known: dict[str, Known] = field(default_factory=dict[str, Known])
    early: dict[str, list[Early]] = field(default_factory=dict[str, list["Early"]])
    """Signals, cancels and the like of runs whose trigger is not accepted yet."""


def fold(shard: Shard, record: e.Recorded) -> bool:
    """Take the next record of the history; whether it counted."""
    if not shard.chain.admit(record):
        return False
    evolve(shard, record.event, record.at, shard.chain.epoch)
    return True


def evolve(shard: Shard, event: e.Event, at: int, epoch: Epoch) -> None:
    """Apply an event that counts."""
    source: Position | None = getattr(event, "source", None)
    if source is not None and source.partition >= 0:
        shard.intake[source.topic_id, source.partition] = Accepted(
            source.offset, source.leader_epoch
        )
    apply = _EVOLVE.get(type(event))
    if apply is not None:
        apply(shard, event, at)
        return
    _evolve_run(shard, cast("e.RunEvent", event), at, epoch)


def _evolve_run(shard: Shard, event: e.RunEvent, at: int, epoch: Epoch) -> None:
    run = shard.runs.get(event.run_id)
    if run is not None:
        evolve_run(run, event, at, epoch)
        if run.is_terminal:
            del shard.runs[run.run_id]
    elif isinstance(event, e.SignalExpired):
        _drop_early_signal(shard, event)
    elif isinstance(event, EARLY_EVENTS):
        shard.early.setdefault(event.run_id, []).append(Early(event, at, epoch))


EARLY_EVENTS = (e.SignalBuffered, e.CancelRequested, e.RunPaused, e.RunResumed)


def dedup_key(workflow: str, key: str) -> str:
    """Under which name a start's idempotency key (or an event's id, workflow empty) is known."""
    return f"{workflow}\n{key}"


def _run_accepted(shard: Shard, event: e.RunAccepted, at: int) -> None:
    for start in event.runs:
        run = accepted(event, start, at)
        shard.runs[start.run_id] = run
        for early in shard.early.pop(start.run_id, ()):
            evolve_run(run, early.event, early.at, early.epoch)
        if start.idempotency_key:
            _remember(shard, dedup_key(start.workflow, start.idempotency_key), event.run_id, at)
    if event.event_id:
        _remember(shard, dedup_key("", event.event_id), event.run_id, at)


def _remember(shard: Shard, key: str, run_id: str, at: int) -> None:
    known = shard.known
    known.pop(key, None)
    known[key] = Known(run_id, at)
    while known:
        oldest = next(iter(known))
        if len(known) <= DEDUPLICATION_KEYS_MAX and known[oldest].at > at - DEDUPLICATION_MS:
            break
        del known[oldest]


def _drop_early_signal(shard: Shard, event: e.SignalExpired) -> None:
    waiting = shard.early.pop(event.run_id, [])
    kept = [
        early
        for early in waiting
        if not (
            isinstance(early.event, e.SignalBuffered) and early.event.signal_id == event.signal_id
        )
    ]
    if kept:
        shard.early[event.run_id] = kept


def _opened(shard: Shard, event: e.ShardOpened, at: int) -> None:
    shard.opened = event


def _claimed(shard: Shard, event: e.Claimed, at: int) -> None:
    shard.unsafe = event.unsafe


def _intake_opened(shard: Shard, event: e.IntakeOpened, at: int) -> None:
    shard.intake.setdefault((event.topic_id, event.partition), Accepted(event.start_offset - 1, -1))


def _intake_gap(shard: Shard, event: e.IntakeGap, at: int) -> None:
    shard.intake[event.topic_id, event.partition] = Accepted(event.to_offset, -1)


def _nothing(shard: Shard, event: object, at: int) -> None:
    """The source position, applied before, is all there is to it."""


_EVOLVE: dict[type[e.Event], Callable[[Shard, Any, int], None]] = {
    e.ShardOpened: _opened,
    e.Claimed: _claimed,
    e.Drained: _nothing,
    e.IntakeOpened: _intake_opened,
    e.IntakeGap: _intake_gap,
    e.IntakeUnmatched: _nothing,
    e.IntakeRejected: _nothing,
    e.RunAccepted: _run_accepted,
    e.RunDeduplicated: _nothing,
}
