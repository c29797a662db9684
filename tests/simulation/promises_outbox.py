"""Invariant I6: what one shard decides to deliver to another arrives there, once, in order."""

from __future__ import annotations

from collections.abc import Iterator

from stepfold.core import commands as c
from stepfold.core import events as e
from tests.simulation.evidence import Evidence
from tests.simulation.story import Entry, ShardStory


def deliveries_arrive_once_and_in_order(evidence: Evidence) -> Iterator[str]:
    app = evidence.topics.inbox.name.removesuffix(".inbox")
    for story in evidence.stories:
        source = f"{app}/{story.partition}"
        for target, outs in _outs(story).items():
            topic, _, partition = target.rpartition("/")
            numbers = [out.n for out in outs]
            if numbers != list(range(1, len(outs) + 1)):
                yield f"{source} numbers what it has for {target}: {numbers}"
            if topic == evidence.topics.control.name:
                there = evidence.stories[int(partition)]
                yield from _arrivals(source, target, outs, _from(there, source))


def _outs(story: ShardStory) -> dict[str, list[e.Out]]:
    found: dict[str, list[e.Out]] = {}
    for entry in story.entries:
        for out in getattr(entry.event, "out", ()):
            found.setdefault(out.target, []).append(out)
    return found


def _from(story: ShardStory, source: str) -> list[Entry]:
    return [
        entry
        for entry in story.entries
        if getattr(entry.event, "origin", e.NOWHERE).shard == source
    ]


def _arrivals(source: str, target: str, outs: list[e.Out], arrived: list[Entry]) -> Iterator[str]:
    way = f"from {source} to {target}"
    numbers = [getattr(entry.event, "origin", e.NOWHERE).n for entry in arrived]
    if numbers != list(range(1, len(numbers) + 1)):
        yield f"{way}: taken in the order {numbers}"
    if len(numbers) != len(outs):
        yield f"{way}: {len(outs)} were decided, {len(numbers)} arrived"
    for out, entry in zip(outs, arrived, strict=False):
        if not _is_what_was_sent(out.body, entry.event):
            yield f"{way}: number {out.n} was {out.body}, and became {entry.event}"


def _is_what_was_sent(body: c.Delivered | c.Trigger, event: e.Event) -> bool:
    match body, event:
        case c.StartChild(), e.RunAccepted():
            same = (body.run_id, body.payload) == (event.run_id, event.payload)
            return same and [start.workflow for start in event.runs] == [body.workflow]
        case c.ResolveChild(), e.ChildResolved():
            return (body.run_id, body.step, body.outcome, body.payload) == (
                event.run_id,
                event.step,
                event.outcome,
                event.payload,
            )
        case c.Cancel(), e.CancelRequested() | e.IntakeRejected():
            return body.run_id == event.run_id
        case _:
            return False


def children_are_what_their_parents_saw(evidence: Evidence) -> Iterator[str]:
    """A parent is told the end that its child had, and every child that was started is there."""
    runs = {run.run_id: run for run in evidence.runs()}
    for run in evidence.runs():
        asked: dict[str, str] = {}
        for entry in run.entries:
            match entry.event:
                case e.ChildRequested(step=step, child_run_id=child_id):
                    if step in asked:
                        yield f"run {run.run_id}: child {step} was asked for again"
                    asked[step] = child_id
                    if child_id not in runs:
                        yield f"run {run.run_id}: child {step}, {child_id}, never began"
                case e.ChildResolved(outcome="completed") as told:
                    child = runs.get(asked.get(told.step, ""))
                    end = None if child is None or child.ending is None else child.ending.event
                    if not isinstance(end, e.RunCompleted) or end.payload != told.payload:
                        yield f"run {run.run_id}: child {told.step} did not return what it was told"
                case _:
                    pass


def events_of_runs_come_from_counting_ones(evidence: Evidence) -> Iterator[str]:
    """What runs put on an inbox was decided by an event that counts, and all of it is there."""
    decided = {
        (out.target, out.body.id, out.body.payload)
        for story in evidence.stories
        for outs in _outs(story).values()
        for out in outs
        if isinstance(out.body, c.Trigger)
    }
    found: set[tuple[str, str, bytes]] = set()
    for place, trigger in evidence.sent_by_runs().items():
        topic, partition, offset = place
        key = (f"{topic}/{partition}", trigger.id, trigger.payload)
        found.add(key)
        if key not in decided:
            yield f"{topic}/{partition}@{offset}: {trigger.id} was sent, and no event counts for it"
    for target, event_id, _ in sorted(decided - found):
        yield f"event {event_id} for {target} was never sent"
