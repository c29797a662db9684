"""What events of the shard tell: owners, intake, deliveries and checkpoints."""

from __future__ import annotations

from typing import Any

from stepfold.core import events as e
from stepfold.core.ids import Epoch, Position
from stepfold.verify.deliveries import check_sums
from stepfold.verify.rules.runs import keys_of
from stepfold.verify.story import (
    Deliveries,
    Fate,
    Moment,
    Parts,
    Rejected,
    RunStory,
    SourceStory,
)


def claimed(event: e.Claimed, now: Moment) -> None:
    now.shard.claims.append((Epoch(now.offset, event.nonce), event.worker_id))


def opened(event: e.ShardOpened, now: Moment) -> None:
    now.shard.opened = event


def drained(event: e.Drained, now: Moment) -> None:
    now.shard.drained_at = now.offset


def nothing(event: object, now: Moment) -> None:
    """The event is a statement, and changes nothing."""


def intake_opened(event: e.IntakeOpened, now: Moment) -> None:
    start = event.start_offset
    source = SourceStory(start=start, mark=start - 1)
    now.shard.sources.setdefault((event.topic_id, event.partition), source)


def gap(event: e.IntakeGap, now: Moment) -> None:
    source = _source_of(now, event.topic_id, event.partition, event.from_offset)
    source.note(event.from_offset, event.to_offset, Fate.GAP, now.offset)


def unmatched(event: e.IntakeUnmatched, now: Moment) -> None:
    note(event, now, Fate.UNMATCHED, event.from_offset)


def rejected(event: e.IntakeRejected, now: Moment) -> None:
    source = event.source
    if source.partition < 0:
        now.shard.early.pop(event.run_id, None)
        return
    note(event, now, Fate.REJECTED)
    taken(event, now)
    if event.dlq_topic:
        copy = Rejected(
            source.offset,
            now.offset,
            event.dlq_topic,
            event.dlq_partition,
            event.dlq_offset,
            event.sha256,
        )
        story = _source_of(now, source.topic_id, source.partition, source.offset)
        story.copies.append(copy)


def accepted(event: e.RunAccepted, now: Moment) -> None:
    note(event, now, Fate.COMMAND if event.origin.shard else Fate.ACCEPTED)
    taken(event, now)
    shard = now.shard
    for start in event.runs:
        run = shard.early.pop(start.run_id, None) or RunStory(now.offset, is_whole=True)
        run.offset, run.base, run.is_whole = now.offset, now.offset, True
        shard.runs[start.run_id] = run
    for key, _ in keys_of(event):
        shard.remember(key, now.timestamp, event.run_id)


def deduplicated(event: e.RunDeduplicated, now: Moment) -> None:
    note(event, now, Fate.DEDUPLICATED)
    now.shard.early.pop(event.run_id, None)


def note(event: Any, now: Moment, fate: Fate, from_offset: int | None = None) -> None:
    """from_offset: where it is about several source records, the first of them."""
    source: Position = event.source
    if source.partition < 0:
        return
    first = source.offset if from_offset is None else from_offset
    story = _source_of(now, source.topic_id, source.partition, first)
    story.note(first, source.offset, fate, now.offset)


def _source_of(now: Moment, topic_id: str, partition: int, first: int) -> SourceStory:
    """first: the first record that is told of, should this be a history without its beginning."""
    key = (topic_id, partition)
    source = now.shard.sources.get(key)
    if source is None:
        start = 0 if now.shard.is_whole else first
        source = now.shard.sources[key] = SourceStory(start=start, mark=start - 1)
    return source


def acknowledged(event: e.OutboxAcked, now: Moment) -> None:
    now.shard.acked[event.target] = event.upto


def decided(event: Any, now: Moment) -> None:
    for out in event.out:
        sent = now.shard.sent.setdefault(out.target, Deliveries())
        sent.note(out.n, *check_sums(out.body), now.offset)


def taken(event: Any, now: Moment) -> None:
    if event.origin.shard:
        deliveries = now.shard.taken.setdefault(event.origin.shard, Deliveries())
        deliveries.note(event.origin.n, *check_sums(event), now.offset)


def shard_snapshot(event: e.ShardSnapshot, now: Moment) -> None:
    begin = note_part(event, now, "")
    if begin is not None:
        now.shard.snapshot = begin


def checkpoint_ended(event: e.CheckpointEnd, now: Moment) -> None:
    now.shard.lwm = event.lwm
    now.shard.parts.clear()


def note_part(event: e.RunSnapshot | e.ShardSnapshot, now: Moment, key: str) -> int | None:
    """Where the snapshot begins that this part completes."""
    parts = now.shard.parts
    if event.part == 0:
        parts[key] = Parts(now.offset)
    known = parts.get(key)
    if known is None or len(known.states) != event.part:
        return None
    known.states.append(event.state)
    if len(known.states) < event.parts:
        return None
    del parts[key]
    return known.offset
