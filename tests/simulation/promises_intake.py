"""Promises 4 and 7, invariant I3: every record is taken in once, in order, or visibly refused."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pydantic_core

from stepfold.core import events as e
from stepfold.journal.port import TopicFacts
from tests.simulation.evidence import Evidence
from tests.simulation.stage import Sent, Sort
from tests.simulation.story import Entry, ShardStory, kind_of, source_of


def sources_are_taken_in_order_and_once(evidence: Evidence) -> Iterator[str]:
    for story in evidence.stories:
        for source in (evidence.topics.inbox, evidence.topics.control):
            yield from _in_order(evidence, story, source)


def _in_order(evidence: Evidence, story: ShardStory, source: TopicFacts) -> Iterator[str]:
    place = f"{source.name}/{story.partition}"
    position = 0
    for entry in story.entries:
        event = entry.event
        taken = source_of(event)
        if isinstance(event, e.IntakeGap):
            yield f"{place}: a gap was declared where none is: {event}"
        if taken is None or taken.topic_id != source.topic_id:
            continue
        first = event.from_offset if isinstance(event, e.IntakeUnmatched) else taken.offset
        if first != position:
            yield f"{place}: {kind_of(event)}@{entry.offset} takes {first}, {position} was next"
        position = max(position, taken.offset + 1)
    end = len(evidence.records(source.name, story.partition))
    if position != end:
        yield f"{place}: taken in up to {position} of {end}"


def triggers_become_their_runs(evidence: Evidence) -> Iterator[str]:
    sent = evidence.triggers()
    inbox = evidence.topics.inbox
    for story in evidence.stories:
        first_of: dict[str, str] = {}
        for offset, entry in _taken(story, inbox):
            record = sent[inbox.name, story.partition, offset]
            yield from _fits(evidence, record, entry, first_of)
        wanted = {offset for offset, _ in _taken(story, inbox)}
        for offset in range(len(evidence.records(inbox.name, story.partition))):
            record = sent[inbox.name, story.partition, offset]
            if record.sort is not Sort.UNWANTED and offset not in wanted:
                place = f"{inbox.name}/{story.partition}@{offset}"
                yield f"{record.sort.value} at {place} became nothing"


def _fits(evidence: Evidence, sent: Sent, entry: Entry, first_of: dict[str, str]) -> Iterator[str]:
    event = entry.event
    place = f"{sent.sort.value} at {sent.topic}/{sent.partition}, event {entry.offset}"
    if sent.sort is Sort.GARBAGE:
        yield from _in_dlq(evidence, sent, entry, place)
    elif sent.sort is Sort.UNWANTED:
        yield f"{place}: became a {kind_of(event)}"
    elif isinstance(event, e.RunDeduplicated):
        if first_of.get(sent.key) != event.existing_run_id or not sent.key:
            yield f"{place}: called a repetition of {event.existing_run_id}, it is none"
    elif not isinstance(event, e.RunAccepted):
        yield f"{place}: became a {kind_of(event)}"
    elif sent.key in first_of:
        yield f"{place}: became runs again, {first_of[sent.key]} had its key {sent.key!r}"
    else:
        if sent.key:
            first_of[sent.key] = event.run_id
        if Counter(start.workflow for start in event.runs) != Counter(sent.workflows):
            yield f"{place}: started {[s.workflow for s in event.runs]}, not {sent.workflows}"
        if pydantic_core.from_json(event.payload) != sent.plan:
            yield f"{place}: the run has the input of another trigger"


def _in_dlq(evidence: Evidence, sent: Sent, entry: Entry, place: str) -> Iterator[str]:
    event = entry.event
    if not isinstance(event, e.IntakeRejected) or not event.dlq_topic:
        yield f"{place}: garbage became a {kind_of(event)}, not a copy in the DLQ"
        return
    copies = evidence.records(event.dlq_topic, event.dlq_partition)
    if evidence.stage.counts["bogus_offset"] == 0:
        # Where Kafka's answer names a wrong place, nobody can tell: several processes write here.
        copies = copies[event.dlq_offset : event.dlq_offset + 1] if event.dlq_offset >= 0 else []
    taken = source_of(event)
    came_from = ("dlq-offset", b"%d" % (-1 if taken is None else taken.offset))
    if not any(copy.value == sent.value and came_from in copy.headers for copy in copies):
        yield f"{place}: there is no copy of it in the DLQ at {event.dlq_offset}"


def garbage_on_control_is_copied(evidence: Evidence) -> Iterator[str]:
    sent = evidence.sent_by_clients()
    control = evidence.topics.control
    for story in evidence.stories:
        for offset, entry in _taken(story, control):
            record = sent.get((control.name, story.partition, offset))
            if record is not None and record.sort is Sort.GARBAGE:
                yield from _in_dlq(evidence, record, entry, f"control {offset}")


def commits_follow_the_history(evidence: Evidence) -> Iterator[str]:
    """A position that is committed before its event is proven would be a lie on dashboards."""
    inbox = evidence.topics.inbox
    for partition, offset, at_us in evidence.stage.commits:
        story = evidence.stories[partition]
        known = max(
            (taken + 1 for taken, entry in _taken(story, inbox, ranges=True)
             if entry.landed_us <= at_us),
            default=0,
        )  # fmt: skip
        if offset > known:
            yield f"{inbox.name}/{partition}: {offset} committed, the history had {known}"


def _taken(
    story: ShardStory, source: TopicFacts, *, ranges: bool = False
) -> Iterator[tuple[int, Entry]]:
    for entry in story.entries:
        taken = source_of(entry.event)
        is_of_it = taken is not None and taken.topic_id == source.topic_id
        if taken is not None and is_of_it:
            is_range = isinstance(entry.event, e.IntakeUnmatched)
            yield from [(taken.offset, entry)] if ranges or not is_range else []
