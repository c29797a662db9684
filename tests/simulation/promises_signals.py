"""Signals: each is delivered once, or kept, or refused for a reason; none is lost."""

from __future__ import annotations

from collections.abc import Iterator

import pydantic_core

from stepfold.core import events as e
from tests.simulation.evidence import Evidence
from tests.simulation.plans import nodes
from tests.simulation.stage import Sent, Sort
from tests.simulation.story import Entry, RunStory, ShardStory, kind_of, source_of


def signals_are_delivered_once_and_not_lost(evidence: Evidence) -> Iterator[str]:
    sent = {record.signal_id: record for record in evidence.stage.sent if record.signal_id}
    for story in evidence.stories:
        yield from _taken_for_what_they_are(evidence, story)
        for run in story.runs.values():
            for problem in _mailbox(run, sent):
                yield f"run {run.run_id}: {problem}"


def _taken_for_what_they_are(evidence: Evidence, story: ShardStory) -> Iterator[str]:
    """Each control record that is a signal became an event of its own, with its content."""
    control = evidence.topics.control
    events = {
        source.offset: entry
        for entry in story.entries
        if (source := source_of(entry.event)) is not None and source.topic_id == control.topic_id
    }
    for record in evidence.stage.sent:
        if record.sort is not Sort.SIGNAL or record.partition != story.partition:
            continue
        for offset in record.offsets:
            entry = events.get(offset)
            if entry is None:
                yield f"signal {record.signal_id} at control/{story.partition}@{offset} is lost"
            else:
                yield from _fits(record, entry, story)


def _fits(record: Sent, entry: Entry, story: ShardStory) -> Iterator[str]:
    match entry.event:
        case e.SignalBuffered() | e.WaitResolved() as event:
            if event.signal_id != record.signal_id:
                yield f"signal {record.signal_id} became one of {event.signal_id}"
        case e.IntakeRejected(reason=reason):
            run = story.runs.get(record.run_id)
            is_open = (
                run is not None
                and run.accepted.offset < entry.offset
                and (run.ending is None or run.ending.offset > entry.offset)
            )
            if run is not None and is_open and _is_sure_to_fit(run, record):
                yield f"signal {record.signal_id} was refused by run {run.run_id}: {reason}"
        case other:
            yield f"signal {record.signal_id} became a {kind_of(other)}"


def _mailbox(run: RunStory, sent: dict[str, Sent]) -> Iterator[str]:
    """What waits in the run, and what becomes of it."""
    waiting: list[str] = []
    waits: dict[str, str] = {}
    due: dict[str, int] = {}
    opened: set[str] = set()
    for entry in run.entries:
        match entry.event:
            case e.SignalBuffered(signal_id=signal_id):
                waiting.append(signal_id)
            case e.WaitOpened(wait_id=wait_id, name=name, expires_at=expires_at):
                if wait_id in opened:
                    yield f"wait {wait_id} was opened again"
                opened.add(wait_id)
                waits[wait_id] = name
                due[wait_id] = expires_at
            case e.WaitResolved() as event:
                yield from _delivered(event, waiting, waits, sent)
            case e.SignalExpired(signal_id=signal_id):
                yield from _taken_out(signal_id, waiting)
                if _is_sure_to_fit(run, sent[signal_id]):
                    yield f"signal {signal_id} was dropped, and somebody could have taken it"
            case e.WaitExpired(wait_id=wait_id):
                name = waits.pop(wait_id, "")
                # One that the code gave up (another branch was faster) may leave a signal behind.
                if 0 < due.get(wait_id, 0) <= entry.stamp:
                    yield from _in_vain(run, name, waiting, sent)
            case _:
                pass


def _delivered(
    event: e.WaitResolved, waiting: list[str], waits: dict[str, str], sent: dict[str, Sent]
) -> Iterator[str]:
    name = waits.pop(event.wait_id, None)
    record = sent[event.signal_id]
    if name != record.signal_name:
        yield f"signal {event.signal_id} ({record.signal_name}) ended wait {event.wait_id} ({name})"
    if pydantic_core.from_json(event.payload) != record.plan:
        yield f"signal {event.signal_id} was delivered with another content"
    if event.source.partition < 0:
        yield from _taken_out(event.signal_id, waiting)


def _taken_out(signal_id: str, waiting: list[str]) -> Iterator[str]:
    """One copy, if a client has repeated itself: it may get one delivery for each."""
    if signal_id in waiting:
        waiting.remove(signal_id)
    else:
        yield f"signal {signal_id} was taken out, and did not wait"


def _in_vain(run: RunStory, name: str, waiting: list[str], sent: dict[str, Sent]) -> Iterator[str]:
    for signal_id in waiting:
        if len(sent[signal_id].offsets) > 1:
            continue  # a copy of one that was delivered is not kept for another wait
        if sent[signal_id].signal_name == name and _is_sure_to_fit(run, sent[signal_id]):
            yield f"a wait for {name} ended in vain while signal {signal_id} was there"


def _is_sure_to_fit(run: RunStory, record: Sent) -> bool:
    """Whether every wait of this name in the run's plan takes what the signal brings."""
    kinds = {
        node["type"]
        for node in nodes(run.order["plan"])
        if node["do"] == "signal" and node["name"] == record.signal_name
    }
    fitting = "int" if isinstance(record.plan, int) else "text"
    return kinds == {fitting} and not isinstance(record.plan, dict)
