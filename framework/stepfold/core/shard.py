"""A shard as the fold of its history partition: the only definition of truth.

`Chain` is rule R5: which records count. A record counts if it is a claim that names
the epoch in force, or if it carries that epoch and the next sequence number. All else
is void, for ever and for every reader alike, whoever wrote it and for whatever reason.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any, NamedTuple, TypeAlias, cast, get_args

from stepfold.core import events as e
from stepfold.core.ids import (
    NO_EPOCH,
    NO_POSITION,
    Epoch,
    Position,
    parse_run_id,
    run_id_of,
    short_topic_id,
)
from stepfold.core.outgoing import Outgoing, note_acked, note_out
from stepfold.core.run import NO_BASE, Run, accepted
from stepfold.core.run import evolve as evolve_run
from stepfold.core.run_state import run_of

DEDUPLICATION_MS = 24 * 3_600_000
"""How long an idempotency key or event id is remembered, from its first use, and the run id
that a repetition would have had."""
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
        verdict = self.judge(record)
        return verdict is Verdict.APPLIES or verdict is Verdict.CLAIMS

    def judge(self, record: e.Recorded) -> Verdict:
        offset, epoch, seq, _, event = record
        if type(event) is e.Claimed:
            if Epoch(event.prev_epoch_offset, event.prev_epoch_nonce) != self.epoch:
                return Verdict.VOID_CLAIM
            self.epoch = Epoch(offset, event.nonce)
            self.next_seq = 0
            self.last_offset = offset
            return Verdict.CLAIMS
        if epoch != self.epoch:
            return Verdict.FENCED
        if seq != self.next_seq:
            return Verdict.DUPLICATE if seq < self.next_seq else Verdict.GAP
        self.next_seq = seq + 1
        self.last_offset = offset
        return Verdict.APPLIES


EarlyEvent: TypeAlias = e.SignalBuffered | e.CancelRequested | e.RunPaused | e.RunResumed
"""What may come before the trigger of its run is taken in."""


class Accepted(NamedTuple):
    """Where the intake of one source partition stands: the last record dealt with."""

    offset: int
    leader_epoch: int


class Known(NamedTuple):
    """The first run of an idempotency key or event id."""

    run_id: str
    at: int


class Early(NamedTuple):
    event: EarlyEvent
    at: int
    epoch: Epoch


@dataclass(slots=True)
class Parts:
    """Parts of one snapshot, and the offset of the first."""

    offset: int
    states: list[bytes]


@dataclass(slots=True)
class Shard:
    chain: Chain = field(default_factory=Chain)
    opened: e.ShardOpened | None = None
    unsafe: bool = False
    intake: dict[tuple[str, int], Accepted] = field(default_factory=dict[tuple[str, int], Accepted])
    runs: dict[str, Run] = field(default_factory=dict[str, Run])
    known: dict[str, Known] = field(default_factory=dict[str, Known])
    aliases: dict[str, Known] = field(default_factory=dict[str, Known])
    """Run ids of starts that were repetitions, and the first run of each."""
    parts: dict[str, Parts] = field(default_factory=dict[str, Parts])
    """Snapshots that are not whole yet, by run id; the shard's own under ""."""
    lwm: int = -1
    """From where a fold may begin, by the last checkpoint that was ended; -1: there is none."""
    checkpoint_offset: int = -1
    """Where that checkpoint ended."""
    begun_at: int = 0
    is_partial: bool = False
    """Whether this fold began in the middle, at `begun_at`, and has not met the checkpoint that
    shows that everything open has a full record behind it (rule R23)."""
    early: dict[str, list[Early]] = field(default_factory=dict[str, list[Early]])
    """Signals, cancels and the like of runs whose trigger is not accepted yet."""
    outbox: dict[str, Outgoing] = field(default_factory=dict[str, Outgoing])
    """By target, such as `research.control/3`."""
    inbound: dict[str, int] = field(default_factory=dict[str, int])
    """The number of the last delivery taken, by the shard that it came from."""
    early_order: list[str] = field(default_factory=list[str])
    """The same run ids, sorted: as their triggers are."""

    def early_before_intake(self) -> list[str]:
        """Of early commands: the run ids whose trigger the intake has passed already."""
        bound = self.next_run_id(self.early_order[0]) if self.early_order else None
        return [] if bound is None else self.early_order[: bisect_left(self.early_order, bound)]

    def next_run_id(self, run_id: str) -> str | None:
        """What the next record of the inbox may start, in the shard where this run is at home."""
        if self.opened is None:
            return None
        topic_id, partition = self.opened.inbox_topic_id, parse_run_id(run_id).partition
        taken = self.intake.get((topic_id, partition))
        if taken is None:
            return None
        return run_id_of(partition, short_topic_id(topic_id), taken.offset + 1)


def fold(shard: Shard, record: e.Recorded) -> bool:
    """Take the next record of the history; whether it counted."""
    if not shard.chain.admit(record):
        return False
    evolve(shard, record.event, record.at, shard.chain.epoch)
    return True


def evolve(shard: Shard, event: e.Event, at: int, epoch: Epoch) -> None:
    """Apply an event that counts."""
    kind = type(event)
    for note in _NOTES[kind]:
        note(shard, event)
    apply = _EVOLVE.get(kind)
    if apply is not None:
        apply(shard, event, at)
    else:
        _evolve_run(shard, cast("e.RunEvent", event), at, epoch)


def _note_source(shard: Shard, event: Any) -> None:
    source: Position = event.source
    if source.partition >= 0:
        shard.intake[source.topic_id, source.partition] = Accepted(
            source.offset, source.leader_epoch
        )


def _note_origin(shard: Shard, event: Any) -> None:
    origin: e.Origin = event.origin
    if origin.shard:
        shard.inbound[origin.shard] = origin.n


def _note_outs(shard: Shard, event: Any) -> None:
    for out in event.out:
        note_out(shard.outbox, out)


def _evolve_run(shard: Shard, event: e.RunEvent, at: int, epoch: Epoch) -> None:
    run = shard.runs.get(event.run_id)
    if run is None:
        _evolve_early(shard, event, at, epoch)
        return
    evolve_run(run, event, at, epoch)
    kind = type(event)
    if kind in _ENDS:
        del shard.runs[event.run_id]
    elif kind in _EARLY:
        early = cast("EarlyEvent", event)
        if early.source.partition < 0:
            _drop_passed_on(shard, early)


def _evolve_early(shard: Shard, event: e.RunEvent, at: int, epoch: Epoch) -> None:
    """Of a run whose trigger is not accepted yet, or that is over."""
    if isinstance(event, e.SignalExpired):
        _drop_early_signal(shard, event)
    elif isinstance(event, EarlyEvent):
        _note_early(shard, event, at, epoch)


def _note_early(shard: Shard, event: EarlyEvent, at: int, epoch: Epoch) -> None:
    if event.run_id not in shard.early:
        insort(shard.early_order, event.run_id)
        shard.early[event.run_id] = []
    shard.early[event.run_id].append(Early(event, at, epoch))


def _take_early(shard: Shard, run_id: str) -> list[Early]:
    early = shard.early.pop(run_id, None)
    if early is None:
        return []
    del shard.early_order[bisect_left(shard.early_order, run_id)]
    return early


def _drop_passed_on(shard: Shard, event: EarlyEvent) -> None:
    """A command that waited for a repetition is the first run's now, and waits no more.

    The repetition is the next record of the inbox. Others may wait for the same, word for word.
    """
    run_id = shard.next_run_id(event.run_id)
    waiting = [] if run_id is None else shard.early.get(run_id, [])
    same = next((each for each in waiting if passed_on(each.event, event.run_id) == event), None)
    if run_id is not None and same is not None:
        for each in _take_early(shard, run_id):
            if each is not same:
                _note_early(shard, each.event, each.at, each.epoch)


def passed_on(event: EarlyEvent, run_id: str) -> EarlyEvent:
    """A command that came early for a repetition, as an event of the first run."""
    return replace(event, run_id=run_id, source=NO_POSITION)


def dedup_key(workflow: str, key: str) -> str:
    """Under which name a start's idempotency key (or an event's id, workflow empty) is known."""
    return f"{workflow}\n{key}"


def _run_accepted(shard: Shard, event: e.RunAccepted, at: int) -> None:
    for start in event.runs:
        run = accepted(event, start, at, shard.chain.last_offset)
        shard.runs[start.run_id] = run
        for early in _take_early(shard, start.run_id):
            evolve_run(run, early.event, early.at, early.epoch)
            # It is before this record: a fold that begins here would not know of it.
            run.base = NO_BASE
        if start.idempotency_key:
            key = dedup_key(start.workflow, start.idempotency_key)
            _remember(shard.known, key, event.run_id, at)
    if event.event_id:
        _remember(shard.known, dedup_key("", event.event_id), event.run_id, at)


def _run_deduplicated(shard: Shard, event: e.RunDeduplicated, at: int) -> None:
    _take_early(shard, event.run_id)
    _remember(shard.aliases, event.run_id, event.existing_run_id, at)


def _rejected(shard: Shard, event: e.IntakeRejected, at: int) -> None:
    if event.source.partition < 0:
        _take_early(shard, event.run_id)


def _remember(known: dict[str, Known], key: str, run_id: str, at: int) -> None:
    known.pop(key, None)
    known[key] = Known(run_id, at)
    while known:
        oldest = next(iter(known))
        if len(known) <= DEDUPLICATION_KEYS_MAX and known[oldest].at > at - DEDUPLICATION_MS:
            break
        del known[oldest]


def _drop_early_signal(shard: Shard, event: e.SignalExpired) -> None:
    for early in _take_early(shard, event.run_id):
        kept = early.event
        if not (isinstance(kept, e.SignalBuffered) and kept.signal_id == event.signal_id):
            _note_early(shard, kept, early.at, early.epoch)


def _outbox_acked(shard: Shard, event: e.OutboxAcked, at: int) -> None:
    note_acked(shard.outbox, event)


def _opened(shard: Shard, event: e.ShardOpened, at: int) -> None:
    shard.opened = event


def _claimed(shard: Shard, event: e.Claimed, at: int) -> None:
    shard.unsafe = event.unsafe


def _intake_opened(shard: Shard, event: e.IntakeOpened, at: int) -> None:
    shard.intake.setdefault((event.topic_id, event.partition), Accepted(event.start_offset - 1, -1))


def _intake_gap(shard: Shard, event: e.IntakeGap, at: int) -> None:
    shard.intake[event.topic_id, event.partition] = Accepted(event.to_offset, -1)


def begin_at(shard: Shard, record: e.Recorded) -> None:
    """Fold from this record on; it is proven, so its envelope tells how the chain stood."""
    shard.chain = Chain(record.epoch, record.seq, record.offset - 1)
    shard.begun_at = record.offset
    shard.is_partial = True


def _run_snapshot(shard: Shard, event: e.RunSnapshot, at: int) -> None:
    whole = _whole(shard, event.run_id, event)
    if whole is None:
        return
    run = shard.runs.get(event.run_id)
    if shard.is_partial:
        # A fold that is complete knows all this, and an owner's runs stay the objects they are.
        run = shard.runs[event.run_id] = run_of(b"".join(whole.states))
    if run is not None:
        run.base = whole.offset


def _shard_snapshot(shard: Shard, event: e.ShardSnapshot, at: int) -> None:
    whole = _whole(shard, "", event)
    if whole is not None and shard.is_partial:
        from stepfold.core.shard_state import restore_shard  # it restores what is defined here

        restore_shard(shard, b"".join(whole.states))


def _whole(shard: Shard, key: str, event: e.RunSnapshot | e.ShardSnapshot) -> Parts | None:
    """The snapshot that this part completes; parts of one that is cut off are dropped."""
    if event.part == 0:
        shard.parts[key] = Parts(shard.chain.last_offset, [])
    parts = shard.parts.get(key)
    if parts is None or len(parts.states) != event.part:
        return None
    parts.states.append(event.state)
    return shard.parts.pop(key) if len(parts.states) == event.parts else None


def _checkpoint_ended(shard: Shard, event: e.CheckpointEnd, at: int) -> None:
    shard.lwm = event.lwm
    shard.checkpoint_offset = shard.chain.last_offset
    shard.parts.clear()
    if event.lwm >= shard.begun_at:
        shard.is_partial = False


def _nothing(shard: Shard, event: object, at: int) -> None:
    """The source position, applied before, is all there is to it."""


_EVOLVE: dict[type[e.Event], Callable[[Shard, Any, int], None]] = {
    e.ShardOpened: _opened,
    e.Claimed: _claimed,
    e.Drained: _nothing,
    e.IntakeOpened: _intake_opened,
    e.IntakeGap: _intake_gap,
    e.IntakeUnmatched: _nothing,
    e.IntakeRejected: _rejected,
    e.OutboxAcked: _outbox_acked,
    e.CheckpointBegin: _nothing,
    e.RunSnapshot: _run_snapshot,
    e.ShardSnapshot: _shard_snapshot,
    e.CheckpointEnd: _checkpoint_ended,
    e.RunAccepted: _run_accepted,
    e.RunDeduplicated: _run_deduplicated,
}
_ENDS = frozenset({e.RunCompleted, e.RunFailed, e.RunCancelled})
_EARLY = frozenset(get_args(EarlyEvent))
_NOTED = {"source": _note_source, "origin": _note_origin, "out": _note_outs}
_NOTES: dict[type[e.Event], tuple[Callable[[Shard, Any], None], ...]] = {
    kind: tuple(note for name, note in _NOTED.items() if name in kind.__dataclass_fields__)
    for kind in e.EVENT_TYPES
}
"""What is noted of an event besides; most kinds have none of these fields."""
