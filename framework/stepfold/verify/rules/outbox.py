"""What shards deliver to one another, and runs that start runs (I6).

A shard numbers what it delivers to each target from 1 on, and the target takes the
numbers as they come. That both sides mean the same thing shows only beside each other
(`deliveries`).
"""

from __future__ import annotations

from typing import TypeAlias

from stepfold.core import events as e
from stepfold.verify.rule import rule
from stepfold.verify.story import Moment

Delivering: TypeAlias = (
    e.RunCompleted | e.RunFailed | e.RunCancelled | e.ChildRequested | e.ChildResolved | e.EventSent
)
Delivered: TypeAlias = e.RunAccepted | e.ChildResolved | e.CancelRequested | e.IntakeRejected


@rule("I6")
def deliveries_are_numbered_without_gaps(event: Delivering, now: Moment) -> str | None:
    if not event.out or not now.shard.is_whole:
        return None
    last: dict[str, int] = {}
    for out in event.out:
        known = now.shard.sent.get(out.target)
        before = last.get(out.target, 0 if known is None else known.last)
        if out.n != before + 1:
            return f"delivery {out.n} to {out.target} is decided; {before + 1} had to come"
        last[out.target] = out.n
    return None


@rule("I6")
def deliveries_are_taken_in_order(event: Delivered, now: Moment) -> str | None:
    if not event.origin.shard or not now.shard.is_whole:
        return None
    known = now.shard.taken.get(event.origin.shard)
    expected = 1 if known is None else known.last + 1
    if event.origin.n == expected:
        return None
    return (
        f"delivery {event.origin.n} of shard {event.origin.shard} is taken; {expected} had to come"
    )


@rule("I6")
def only_what_was_decided_is_acknowledged(event: e.OutboxAcked, now: Moment) -> str | None:
    if not now.shard.is_whole:
        return None
    sent = now.shard.sent.get(event.target)
    last = 0 if sent is None else sent.last
    if event.upto > last:
        return f"delivery {event.upto} to {event.target} is acknowledged; {last} is the last one"
    if event.upto <= now.shard.acked.get(event.target, 0):
        return f"delivery {event.upto} to {event.target} had been acknowledged before"
    return None


@rule("I4")
def call_is_made_once(event: e.ChildRequested | e.EventSent, now: Moment) -> str | None:
    if now.run is None or event.step not in now.run.children:
        return None
    what = "an event" if isinstance(event, e.EventSent) else "a child"
    return f"{what} is asked for again, which the step had asked for before"


@rule("I4")
def child_is_answered_once(event: e.ChildResolved, now: Moment) -> str | None:
    """Its own answer may come when the run does not wait for it any more."""
    if now.run is None or not now.run.is_whole:
        return None
    child = now.run.children.get(event.step)
    if event.origin.shard:
        if child is None:
            return "a child answers that was never asked for"
        return "the child answers a second time" if child.is_answered else None
    if child is None or child.is_awaited:
        return None  # it could not even be asked for, or is given up now
    return "the run gives up a child that it does not wait for"


@rule("I5")
def run_ends_with_no_child_awaited(
    event: e.RunCompleted | e.RunFailed | e.RunCancelled, now: Moment
) -> str | None:
    children = {} if now.run is None else now.run.children
    left = sorted(step for step, child in children.items() if child.is_awaited)
    if not left:
        return None
    return f"{type(event).__name__} leaves children awaited: {', '.join(left)}"
