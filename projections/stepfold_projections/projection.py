"""Records of histories to changes of the store, batch by batch.

The same rule as everywhere says which records count (R5, `Chain`), and the rows follow
from the events that do. Belongs to one thread. What a transaction that fails has changed
in memory is dropped: only the store knows what is committed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple, cast

from stepfold.core import events as e
from stepfold.core.errors import CodecError
from stepfold.core.ids import Epoch, Position
from stepfold.core.shard import Chain
from stepfold.journal.codec import decode_event, event_run_id
from stepfold.journal.port import LogRecord, TopicFacts
from stepfold_projections.runs import RunRow, apply, note_epoch, rows_of
from stepfold_projections.store import Changes, ShardRow, StoredEvent, TraceStore

ROWS_CACHED_MAX = 20_000
"""Rows kept in memory between batches; the ones over go first."""

Place = tuple[str, int]


class Piece(NamedTuple):
    """Records of one history partition, in order."""

    app: str
    partition: int
    records: Sequence[LogRecord]


class Taken(NamedTuple):
    """What a transaction moved: how many records were read, and where shards are now."""

    records: int
    shards: Sequence[ShardRow]


class Projection:
    """Its shards are what the store has committed; a batch works on copies of them."""

    def __init__(self, store: TraceStore) -> None:
        self._store = store
        self._shards: dict[Place, ShardRow] = {}
        self._rows: dict[str, RunRow] = {}

    def join(self, app: str, history: TopicFacts, partition: int) -> ShardRow:
        """Where to read on, by the store's word; again after a conflict.

        What earlier reading stumbled upon is tried again from there.
        """
        self._rows.clear()
        stored = self._store.join(ShardRow(app, partition, history.topic_id))
        shard = self._shards[app, partition] = replace(stored, fault="")
        return shard

    def take(self, pieces: Sequence[Piece]) -> Taken:
        """Apply records and positions in one transaction. Records already taken are passed over.

        Raises StoreConflictError when the store is not where it was left: join again.
        """
        batch = _Batch(self._store, self._shards, self._rows)
        try:
            for piece in pieces:
                batch.read(piece)
            batch.fold()
            self._store.apply(batch.changes())
        except BaseException:
            # Rows change in place, so these show what was not committed.
            self._rows.clear()
            raise
        self._shards.update(batch.shards)
        self._forget()
        return Taken(batch.records, list(batch.shards.values()))

    def _forget(self) -> None:
        if len(self._rows) <= ROWS_CACHED_MAX:
            return
        for run_id in [run_id for run_id, row in self._rows.items() if row.is_over]:
            del self._rows[run_id]
        for run_id in list(self._rows)[: len(self._rows) - ROWS_CACHED_MAX]:
            del self._rows[run_id]


class _Fact(NamedTuple):
    shard: ShardRow
    record: e.Recorded
    value: bytes


class _Batch:
    """One transaction in the making."""

    def __init__(
        self, store: TraceStore, shards: dict[Place, ShardRow], rows: dict[str, RunRow]
    ) -> None:
        self.records = 0
        self.shards: dict[Place, ShardRow] = {}
        self._store = store
        self._committed = shards
        self._rows = rows
        self._facts: list[_Fact] = []
        self._touched: dict[str, RunRow] = {}
        self._early: dict[str, list[e.Recorded]] = {}

    def read(self, piece: Piece) -> None:
        """Decode, and let the chain say what counts."""
        place = (piece.app, piece.partition)
        if place not in self.shards:
            self.shards[place] = replace(self._committed[place])
        shard = self.shards[place]
        if shard.fault:
            return
        chain = Chain(
            Epoch(shard.epoch_offset, shard.epoch_nonce), shard.next_seq, shard.last_offset
        )
        for record in piece.records:
            if record.offset < shard.next_offset:
                continue
            try:
                recorded = decode_event(record.value or b"", record.offset)
            except CodecError as error:
                # Skipping it could make everything behind it a lie: stand still, visibly.
                shard.fault = f"offset {record.offset} cannot be read: {error}"
                break
            shard.next_offset = record.offset + 1
            self.records += 1
            if chain.admit(recorded):
                self._facts.append(_Fact(shard, recorded, record.value or b""))
            else:
                shard.void_records += 1
        (shard.epoch_offset, shard.epoch_nonce) = chain.epoch
        shard.next_seq, shard.last_offset = chain.next_seq, chain.last_offset

    def fold(self) -> None:
        self._load_rows()
        for fact in self._facts:
            event = fact.record.event
            _note_source(fact.shard, event)
            if isinstance(event, e.RunAccepted):
                self._accept(fact, event)
            elif isinstance(event, _SHARD_EVENTS):
                _note_shard(fact.shard, event)
            else:
                self._take_run_event(fact.record, event)

    def changes(self) -> Changes:
        return Changes(
            events=[
                _stored(fact)
                for fact in self._facts
                if not isinstance(fact.record.event, SNAPSHOTS)
            ],
            runs=self._touched.values(),
            shards=self.shards.values(),
            positions={place: self._committed[place].next_offset for place in self.shards},
        )

    def _load_rows(self) -> None:
        wanted = {event_run_id(fact.record.event) for fact in self._facts} - self._rows.keys()
        wanted.discard("")
        if wanted:
            self._rows.update(self._store.rows(wanted))
        accepted = {
            start.run_id
            for fact in self._facts
            if isinstance(fact.record.event, e.RunAccepted)
            for start in fact.record.event.runs
        }
        if accepted:
            for stored in self._store.early_events(accepted):
                # Beyond the position are events that another projector has just written;
                # this transaction will be refused.
                shard = self._committed.get((stored.app, stored.partition))
                if shard is not None and stored.offset < shard.next_offset:
                    recorded = decode_event(stored.value, stored.offset)
                    self._early.setdefault(stored.run_id, []).append(recorded)

    def _accept(self, fact: _Fact, event: e.RunAccepted) -> None:
        record, partition = fact.record, fact.shard.partition
        for row in rows_of(event, partition=partition, offset=record.offset, at=record.at):
            self._rows[row.run_id] = self._touched[row.run_id] = row
            note_epoch(row, record.epoch, record.seq)
            for early in self._early.pop(row.run_id, ()):
                self._apply(row, early)
            # What was asked before is part of the run from its acceptance on.
            row.updated_at, row.last_offset = record.at, record.offset
            note_epoch(row, record.epoch, record.seq)

    def _take_run_event(self, record: e.Recorded, event: e.RunEvent) -> None:
        row = self._rows.get(event.run_id)
        if row is None:
            self._early.setdefault(event.run_id, []).append(record)
        elif not row.is_over:
            self._touched[row.run_id] = row
            self._apply(row, record)

    def _apply(self, row: RunRow, record: e.Recorded) -> None:
        event = cast("e.RunEvent", record.event)
        apply(row, event, offset=record.offset, at=record.at, epoch=record.epoch, seq=record.seq)


_SHARD_EVENTS = (
    e.ShardOpened,
    e.Claimed,
    e.Drained,
    e.IntakeOpened,
    e.IntakeGap,
    e.IntakeUnmatched,
    e.IntakeRejected,
    e.RunDeduplicated,
    e.OutboxAcked,
    e.CheckpointBegin,
    e.RunSnapshot,
    e.ShardSnapshot,
    e.CheckpointEnd,
)


SNAPSHOTS = (e.RunSnapshot, e.ShardSnapshot)
"""What they hold is in the events that are stored already: they are no part of a run's story."""


def _note_shard(shard: ShardRow, event: e.Event) -> None:
    match event:
        case e.ShardOpened():
            shard.inbox_topic_id = event.inbox_topic_id
            shard.control_topic_id = event.control_topic_id
        case e.Claimed():
            shard.worker_id = event.worker_id
            shard.is_drained = False
        case e.Drained():
            shard.is_drained = True
        case e.IntakeGap():
            _note_position(shard, event.topic_id, event.to_offset)
        case _:
            pass


def _note_source(shard: ShardRow, event: e.Event) -> None:
    source: Position | None = getattr(event, "source", None)
    if source is not None and source.partition >= 0:
        _note_position(shard, source.topic_id, source.offset)


def _note_position(shard: ShardRow, topic_id: str, offset: int) -> None:
    if topic_id == shard.inbox_topic_id:
        shard.inbox_offset = offset
    elif topic_id == shard.control_topic_id:
        shard.control_offset = offset


def _stored(fact: _Fact) -> StoredEvent:
    record, event = fact.record, fact.record.event
    step = None
    if isinstance(event, e.AttemptStarted) and event.attempt == 1:
        step = step_name(event.step)
    return StoredEvent(
        fact.shard.app,
        fact.shard.partition,
        record.offset,
        event_run_id(event),
        type(event).__name__,
        record.at,
        step,
        fact.value,
    )


def step_name(step: str) -> str:
    """The name in a step's identity: without the count or key that tells its calls apart."""
    return step.partition("[")[0].rpartition("#")[0] or step.partition("[")[0]
