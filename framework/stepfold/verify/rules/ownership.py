"""Who wrote, and what owners say of one another: I1, I2, and rules R2, R8 and R14."""

from __future__ import annotations

from typing import TypeAlias

from stepfold.core import events as e
from stepfold.verify.reading import AnyEvent
from stepfold.verify.rule import Scope, rule
from stepfold.verify.story import Moment

IN_FLIGHT_MAX = 64
"""Records of a shard that its owner hands over without knowing what became of the first
of them (rule R7). So many may follow one that cannot be proven, itself included."""
OfTheShard: TypeAlias = (
    e.Drained
    | e.IntakeOpened
    | e.IntakeGap
    | e.IntakeUnmatched
    | e.IntakeRejected
    | e.RunAccepted
    | e.RunDeduplicated
    | e.OutboxAcked
    | e.CheckpointBegin
)


@rule("I2")
def claim_closes_what_counted(event: e.Claimed, now: Moment) -> str | None:
    """Less is possible: more may have come between the claimant's look and its claim."""
    before = now.shard.succession
    where = before.offset_of(event.closes_last_seq)
    if where == event.closes_last_offset or (where is None and not now.shard.is_whole):
        return None
    if where is None:
        return (
            f"the claim closes its predecessor at event {event.closes_last_seq}; the log shows"
            f" {before.next_seq} events of it that count, so some are gone or were miscounted"
        )
    return (
        f"the claim says that event {event.closes_last_seq} of its predecessor lies at offset"
        f" {event.closes_last_offset}; it lies at {where}"
    )


@rule("I1", Scope.ALL)
def writer_stops_at_what_it_cannot_prove(event: AnyEvent, now: Moment) -> str | None:
    first = now.shard.unproven.get(now.epoch)
    if first is None or now.seq < first + IN_FLIGHT_MAX:
        return None
    return (
        f"the owner of the epoch claimed at offset {now.epoch.offset} wrote event {now.seq},"
        f" though it could not prove event {first}"
    )


@rule("I1", Scope.VOID)
def only_owners_write(event: AnyEvent, now: Moment) -> str | None:
    shard = now.shard
    if isinstance(event, e.Claimed) or not shard.is_whole:
        return None
    if shard.claimant_of(now.epoch) is not None:
        return None
    return (
        f"an event was written under the epoch ({now.epoch.offset}, {now.epoch.nonce}), which"
        " never was in force: somebody else writes to this history"
    )


@rule("I2")
def shard_opens_once(event: e.ShardOpened, now: Moment) -> str | None:
    return None if now.shard.opened is None else "the shard is opened a second time"


@rule("I2")
def shard_opens_first(event: OfTheShard, now: Moment) -> str | None:
    """Of runs nothing can come before, because they are accepted before."""
    if now.shard.opened is not None or not now.shard.is_whole:
        return None
    return f"{type(event).__name__} comes before the shard is opened"


@rule("R2")
def shard_opens_on_its_own_topics(event: e.ShardOpened, now: Moment) -> str | None:
    shard = now.shard
    if event.app != shard.app:
        return f"the history is of app {event.app!r}, and lies in a topic of {shard.app!r}"
    if shard.history_topic_id and event.history_topic_id != shard.history_topic_id:
        return (
            f"the history was begun in topic {event.history_topic_id}, and lies in"
            f" {shard.history_topic_id}: the topic was re-created or copied"
        )
    if not shard.partition < event.partitions:
        return f"partition {shard.partition} is opened as one of {event.partitions}"
    return None


@rule("I2")
def drained_owner_counts_open_attempts(event: e.Drained, now: Moment) -> str | None:
    if not now.shard.is_whole:
        return None
    left = sum(len(run.open_attempts) for run in now.shard.runs.values())
    if left == event.open_attempts:
        return None
    return (
        f"the owner says that {event.open_attempts} attempts are open as it leaves;"
        f" the log shows {left}"
    )
