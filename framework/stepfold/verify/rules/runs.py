"""Runs: accepted once, under the id that their trigger gives them, ended once, and then silent."""

from __future__ import annotations

from typing import TypeAlias

from stepfold.core import events as e
from stepfold.core.ids import (
    child_run_id_of,
    is_child,
    parse_run_id,
    run_id_of,
    short_topic_id,
)
from stepfold.verify.reading import UnknownEvent
from stepfold.verify.rule import CLOCK_TOLERANCE_MS, rule
from stepfold.verify.story import KEY_MEMORY_MS, Moment

Early: TypeAlias = (
    e.SignalBuffered | e.SignalExpired | e.CancelRequested | e.RunPaused | e.RunResumed
)
"""What may come before the trigger of its run: a command waits for it."""
End: TypeAlias = e.RunCompleted | e.RunFailed | e.RunCancelled
OwnEvent: TypeAlias = (
    e.AttemptStarted
    | e.AttemptFailed
    | e.AttemptTimedOut
    | e.AttemptCancelled
    | e.AttemptLost
    | e.StepCompleted
    | e.TimerSet
    | e.TimerFired
    | e.TimerCancelled
    | e.WaitOpened
    | e.WaitResolved
    | e.WaitExpired
    | e.RunParked
    | e.ChildRequested
    | e.ChildResolved
    | e.EventSent
    | End
)
PayloadEvent: TypeAlias = (
    e.RunAccepted
    | e.AttemptStarted
    | e.StepCompleted
    | e.WaitResolved
    | e.SignalBuffered
    | e.ChildRequested
    | e.ChildResolved
    | e.RunCompleted
)
ENCODINGS = frozenset({"json", "none"})
"""How a payload may be encoded; `none` is no payload."""
RUN_TIMEOUT = "RunTimeout"
"""The error of a run whose time is over, which ends it in whatever state it is."""


@rule("I3")
def run_is_accepted_once(event: e.RunAccepted, now: Moment) -> str | None:
    ids = [start.run_id for start in event.runs]
    again = [run_id for run_id in ids if now.shard.is_known(run_id)]
    if again:
        return f"run {again[0]} was accepted before"
    if len(set(ids)) < len(ids):
        return f"one trigger starts the same run twice: {', '.join(ids)}"
    return None


@rule("I3")
def run_id_names_its_trigger(event: e.RunAccepted, now: Moment) -> str | None:
    source = event.source
    if event.origin.shard:
        return None
    if source.partition < 0 or not event.runs:
        return "a run was accepted without a trigger" if event.runs else "a trigger starts no run"
    topic = short_topic_id(source.topic_id)
    for number, start in enumerate(event.runs):
        expected = run_id_of(source.partition, topic, source.offset, number)
        if start.run_id != expected:
            return (
                f"run {start.run_id} is number {number} of the trigger at offset {source.offset}"
                f" of partition {source.partition}, whose id is {expected}"
            )
    if event.run_id != event.runs[0].run_id:
        return f"the event names run {event.run_id}, and starts {event.runs[0].run_id} first"
    return None


@rule("I3")
def child_run_id_names_its_parent(event: e.RunAccepted, now: Moment) -> str | None:
    """Where nobody waits for it the event does not name the parent's step, nor can its id be
    computed again: then it must at least be the id of a child of this shard.
    """
    if not event.origin.shard:
        return None
    parent, opened = event.parent, now.shard.opened
    topic = "" if opened is None else short_topic_id(opened.inbox_topic_id)
    if parent.step:
        expected = child_run_id_of(now.shard.partition, topic, parent.run_id, parent.step)
        if event.run_id != expected:
            return f"the child of step {parent.step!r} of run {parent.run_id} has the id {expected}"
    try:
        address = parse_run_id(event.run_id)
    except ValueError as error:
        return str(error)
    at_home = (address.partition, address.topic) == (now.shard.partition, topic)
    if at_home and is_child(address) and [run.run_id for run in event.runs] == [event.run_id]:
        return None
    return "a child is accepted under an id that is none of a child of this shard"


@rule("I3")
def repeated_key_starts_no_run(event: e.RunAccepted, now: Moment) -> str | None:
    for key, name in keys_of(event):
        seen = now.shard.keys.get(key)
        if seen is not None and now.timestamp - seen[0] < KEY_MEMORY_MS - CLOCK_TOLERANCE_MS:
            return f"{name} started run {seen[1]} before, and starts another one"
    return None


def keys_of(event: e.RunAccepted) -> list[tuple[str, str]]:
    """By what a repetition is recognised: the id of an event, the keys of starts; with a name."""
    found = [
        (f"key\n{start.workflow}\n{start.idempotency_key}", f"key {start.idempotency_key!r}")
        for start in event.runs
        if start.idempotency_key
    ]
    if event.event_id:
        found.append((f"event\n{event.event_id}", f"the event with id {event.event_id!r}"))
    return found


@rule("I3")
def repetition_names_an_accepted_run(event: e.RunDeduplicated, now: Moment) -> str | None:
    if not now.shard.is_whole or now.shard.is_known(event.existing_run_id):
        return None
    return f"a repetition is laid to run {event.existing_run_id}, which was never accepted"


@rule("I3")
def events_belong_to_an_accepted_run(event: OwnEvent, now: Moment) -> str | None:
    if isinstance(event, e.ChildResolved) and event.origin.shard:
        return None  # the child of a run that is over may still answer
    if now.run is not None or not now.shard.is_whole or event.run_id in now.shard.ended:
        return None
    return f"{type(event).__name__} of a run that was never accepted"


@rule("I4")
def nothing_of_a_run_follows_its_end(
    event: OwnEvent | Early | UnknownEvent, now: Moment
) -> str | None:
    if now.run is not None:
        return None
    if isinstance(event, e.ChildResolved) and event.origin.shard:
        return None
    ended_at = now.shard.ended.get(event.run_id)
    if ended_at is None:
        return None
    kind = event.kind if isinstance(event, UnknownEvent) else type(event).__name__
    return f"{kind} comes after the run ended at offset {ended_at}"


@rule("I5")
def run_ends_with_no_attempt_open(event: End, now: Moment) -> str | None:
    left = [] if now.run is None else now.run.open_attempts
    if not left:
        return None
    return f"{type(event).__name__} leaves attempts open: {', '.join(sorted(left))}"


GoesOn: TypeAlias = (
    e.AttemptStarted
    | e.TimerSet
    | e.WaitOpened
    | e.ChildRequested
    | e.EventSent
    | e.RunParked
    | e.RunCompleted
    | e.RunFailed
)
"""What a run does by itself, and so not while it is parked."""


@rule("I4")
def parked_run_waits_for_resume(event: GoesOn, now: Moment) -> str | None:
    if now.run is None or not now.run.is_parked:
        return None
    if isinstance(event, e.RunFailed) and event.error_type == RUN_TIMEOUT:
        return None
    return f"{type(event).__name__} of a run that is parked and was not resumed"


@rule("I4")
def paused_run_starts_no_attempt(event: e.AttemptStarted, now: Moment) -> str | None:
    if now.run is None or not now.run.is_paused:
        return None
    return f"attempt {event.attempt} started while the run is paused"


@rule("I5")
def parking_tells_what_the_log_shows(event: e.RunParked, now: Moment) -> str | None:
    step = now.step
    if step is None or event.reason != "poison" or event.lost == step.lost:
        return None
    return f"the run is parked for {event.lost} lost attempts; the log shows {step.lost}"


@rule("R20")
def payload_encoding_is_known(event: PayloadEvent, now: Moment) -> str | None:
    if event.payload_encoding in ENCODINGS:
        return None
    return f"the payload is encoded as {event.payload_encoding!r}, which nobody can read"
