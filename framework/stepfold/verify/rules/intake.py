"""Intake: every source record has one fate, and positions only move forward (I3).

What the history alone can show is here; that no source record is left out shows only
beside the sources themselves (`sources`).
"""

from __future__ import annotations

from typing import TypeAlias

from stepfold.core import events as e
from stepfold.core.ids import Position
from stepfold.verify.rule import rule
from stepfold.verify.story import Moment

OfTrigger: TypeAlias = e.RunAccepted | e.RunDeduplicated
OfCommand: TypeAlias = (
    e.WaitResolved
    | e.SignalBuffered
    | e.CancelRequested
    | e.RunPaused
    | e.RunResumed
    | e.ChildResolved
)
Sourced: TypeAlias = OfTrigger | OfCommand | e.IntakeUnmatched | e.IntakeRejected
SHA256_DIGITS = 64


@rule("I3")
def source_opens_once(event: e.IntakeOpened, now: Moment) -> str | None:
    if (event.topic_id, event.partition) not in now.shard.sources:
        return None
    return f"the intake of {event.topic} is opened a second time"


@rule("I3")
def source_is_one_of_this_shard(event: Sourced, now: Moment) -> str | None:
    source = event.source
    if source.partition < 0:
        return None
    if source.partition != now.shard.partition:
        return (
            f"the source is a record of partition {source.partition}, and partition"
            f" {now.shard.partition} is another shard"
        )
    if (source.topic_id, source.partition) in now.shard.sources or not now.shard.is_whole:
        return None
    return f"the source is a record of topic {source.topic_id}, whose intake was never opened"


@rule("I3")
def source_is_the_topic_of_its_kind(event: OfTrigger | OfCommand, now: Moment) -> str | None:
    opened = now.shard.opened
    if opened is None or event.source.partition < 0:
        return None
    is_child = isinstance(event, e.RunAccepted) and bool(event.origin.shard)
    is_trigger = isinstance(event, OfTrigger) and not is_child
    expected = opened.inbox_topic_id if is_trigger else opened.control_topic_id
    if event.source.topic_id == expected:
        return None
    where = "inbox" if is_trigger else "control"
    return f"{type(event).__name__} comes from topic {event.source.topic_id}, not from {where}"


@rule("I3")
def source_is_taken_once(event: Sourced, now: Moment) -> str | None:
    source = event.source
    first = event.from_offset if isinstance(event, e.IntakeUnmatched) else source.offset
    if first > source.offset:
        return f"the range of source records {first} to {source.offset} is turned round"
    mark = _mark_of(now, source)
    if mark is None or first > mark:
        return None
    return (
        f"source record {first} of topic {source.topic_id} is taken, where the history had"
        f" dealt with all up to {mark}"
    )


@rule("I3")
def gap_begins_where_intake_stands(event: e.IntakeGap, now: Moment) -> str | None:
    source = now.shard.sources.get((event.topic_id, event.partition))
    mark = None if source is None else source.mark
    if event.to_offset < event.from_offset:
        return f"the gap {event.from_offset} to {event.to_offset} is turned round"
    if mark is None or event.from_offset == mark + 1:
        return None
    return f"the gap begins at source record {event.from_offset}; the next one was {mark + 1}"


@rule("I3")
def rejection_names_its_copy(event: e.IntakeRejected, now: Moment) -> str | None:
    if not event.dlq_topic:
        return None
    expected = f"{now.shard.app}.inbox.dlq"
    if event.dlq_topic != expected:
        return f"the copy is said to be in {event.dlq_topic}, and belongs into {expected}"
    if event.dlq_offset < 0 or len(event.sha256) != SHA256_DIGITS:
        return "the copy in the DLQ is named without its offset or its SHA-256"
    return None


def _mark_of(now: Moment, source: Position) -> int | None:
    known = now.shard.sources.get((source.topic_id, source.partition))
    return None if known is None else known.mark
