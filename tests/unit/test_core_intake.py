"""What records of the inbox and of control become."""

from __future__ import annotations

from dataclasses import replace

import pytest

from stepfold.core import commands as c
from stepfold.core import decide, intake
from stepfold.core import events as e
from stepfold.core.ids import NO_POSITION, run_id_of, short_topic_id
from stepfold.core.shard import Shard, evolve
from tests.unit import core_samples as given

AT = given.AT
LATER = run_id_of(0, short_topic_id(given.INBOX), 6)
"""The run of a trigger that is not taken in yet."""


def signal(run_id: str = given.RUN, name: str = "approval") -> c.Signal:
    return c.Signal(
        run_id=run_id,
        signal_id="s1",
        name=name,
        payload=b"true",
        payload_encoding="json",
        key_id="",
    )


def cancel(run_id: str = given.RUN) -> c.Cancel:
    return c.Cancel(run_id=run_id, by="me", reason="wrong model")


def test_signal_resolves_the_wait_of_its_name() -> None:
    shard = given.shard_of([given.waits()])

    (event,) = intake.control(shard, signal(), given.control_at(0), AT)

    assert isinstance(event, e.WaitResolved)
    assert event.wait_id == "approval"


def test_signal_that_nobody_waits_for_is_buffered_and_delivered_later() -> None:
    shard = given.shard_of()
    (event,) = intake.control(shard, signal(), given.control_at(0), AT)
    evolve(shard, event, AT, given.EPOCH)
    evolve(shard, given.waits(), AT, given.EPOCH)

    (delivered,) = decide.buffered_deliveries(shard.runs[given.RUN])

    assert isinstance(event, e.SignalBuffered)
    assert (delivered.signal_id, delivered.payload) == ("s1", b"true")


def test_command_for_a_run_that_is_not_accepted_yet_waits_for_it() -> None:
    shard = given.shard_of()

    (event,) = intake.control(shard, cancel(LATER), given.control_at(0), AT)
    evolve(shard, event, AT, given.EPOCH)
    evolve(shard, given.accepted(LATER, offset=6), AT, given.EPOCH)

    assert shard.runs[LATER].cancel_reason == "wrong model"


def test_command_for_a_run_that_is_over_is_rejected_visibly() -> None:
    shard = given.shard_of([e.RunCancelled(run_id=given.RUN, reason="")])

    (event,) = intake.control(shard, cancel(), given.control_at(0), AT)

    assert isinstance(event, e.IntakeRejected)
    assert "over" in event.reason


def test_second_cancel_changes_nothing() -> None:
    shard = given.shard_of()
    (event,) = intake.control(shard, cancel(), given.control_at(0), AT)
    evolve(shard, event, AT, given.EPOCH)

    assert intake.control(shard, cancel(), given.control_at(1), AT) == ()


def trigger(event_id: str = "evt-1", workflow: str = "", key: str = "") -> c.Trigger:
    return c.Trigger(
        name="agent/run",
        id=event_id,
        workflow=workflow,
        payload=b"{}",
        payload_encoding="json",
        key_id="",
        idempotency_key=key,
        sent_at=0,
    )


def test_repeated_event_id_leads_to_the_first_run() -> None:
    shard = given.shard_of([given.accepted(event_id="evt-1")])
    starts = (e.RunStart("other", "agent", "", "", "", 0),)

    (event,) = intake.accept(shard, "research", trigger(), given.inbox_at(6), starts)

    assert isinstance(event, e.RunDeduplicated)
    assert event.existing_run_id == given.RUN


def test_idempotency_key_counts_per_workflow() -> None:
    shard = given.shard_of([given.accepted(key="q-17")])

    def accept(workflow: str) -> e.Event:
        starts = (e.RunStart("other", workflow, "", "", "q-17", 0),)
        again = trigger(workflow=workflow, key="q-17")
        return intake.accept(shard, "research", again, given.inbox_at(6), starts)[0]

    assert isinstance(accept("agent"), e.RunDeduplicated)
    assert isinstance(accept("another"), e.RunAccepted)


def take(shard: Shard, events: tuple[e.Event, ...]) -> list[e.Event]:
    for event in events:
        evolve(shard, event, AT, given.EPOCH)
    return list(events)


def repeat(shard: Shard) -> list[e.Event]:
    """The start of LATER, which repeats the key of the run that is there."""
    starts = (e.RunStart(LATER, "agent", "", "", "q-17", 0),)
    again = trigger(workflow="agent", key="q-17")
    return take(shard, intake.accept(shard, "research", again, given.inbox_at(6), starts))


def test_commands_for_a_repetition_go_to_the_first_run() -> None:
    shard = given.shard_of([given.accepted(key="q-17"), given.waits()])
    repeat(shard)

    (event,) = intake.control(shard, signal(LATER), given.control_at(0), AT)

    assert isinstance(event, e.WaitResolved)
    assert event.run_id == given.RUN


def test_commands_that_came_before_a_repetition_are_passed_on_to_the_first_run() -> None:
    shard = given.shard_of([given.accepted(key="q-17")])
    take(shard, intake.control(shard, signal(LATER), given.control_at(0), AT))
    take(shard, intake.control(shard, cancel(LATER), given.control_at(1), AT))

    repeat(shard)

    first = shard.runs[given.RUN]
    assert [waiting.id for waiting in first.signals] == ["s1"]
    assert first.cancel_reason == "wrong model"
    assert not shard.early
    assert not shard.early_order


@pytest.mark.parametrize("landed", range(4))
def test_commands_for_a_repetition_are_passed_on_once_whatever_part_of_it_lands(
    landed: int,
) -> None:
    shard = given.shard_of([given.accepted(key="q-17")])
    for offset, name in enumerate(("s1", "s2")):
        early = replace(signal(LATER), signal_id=name)
        take(shard, intake.control(shard, early, given.control_at(offset), AT))
    starts = (e.RunStart(LATER, "agent", "", "", "q-17", 0),)
    again = trigger(workflow="agent", key="q-17")
    events = intake.accept(shard, "research", again, given.inbox_at(6), starts)
    take(shard, events[:landed])
    is_taken = shard.intake[given.INBOX, 0].offset == 6

    if not is_taken:  # the next owner takes the record in again
        repeat(shard)

    assert len(events) == 3
    assert is_taken == (landed == 3)
    assert [waiting.id for waiting in shard.runs[given.RUN].signals] == ["s1", "s2"]
    assert not shard.early


def test_the_same_command_for_another_run_is_not_taken_for_the_one_passed_on() -> None:
    shard = given.shard_of([given.accepted(key="q-17")])
    other = run_id_of(0, short_topic_id(given.INBOX), 7)
    for offset, run_id in enumerate((other, LATER)):
        take(shard, intake.control(shard, cancel(run_id), given.control_at(offset), AT))

    repeat(shard)

    assert shard.runs[given.RUN].cancel_reason == "wrong model"
    assert list(shard.early) == [other]


def test_command_for_a_repetition_of_a_run_that_is_over_is_rejected_visibly() -> None:
    ended = e.RunCancelled(run_id=given.RUN, reason="")
    shard = given.shard_of([given.accepted(key="q-17"), ended])
    take(shard, intake.control(shard, signal(LATER), given.control_at(0), AT))

    rejected, _ = repeat(shard)

    assert isinstance(rejected, e.IntakeRejected)
    assert rejected.source == NO_POSITION
    assert "repetition" in rejected.reason


def test_early_command_whose_record_started_no_run_is_rejected_visibly() -> None:
    shard = given.shard_of()
    take(shard, intake.control(shard, signal(LATER), given.control_at(0), AT))
    waiting_still = intake.overdue(shard, AT)
    unmatched = e.IntakeUnmatched(source=given.inbox_at(6), from_offset=6)
    evolve(shard, unmatched, AT, given.EPOCH)

    (rejected,) = take(shard, intake.overdue(shard, AT))

    assert waiting_still == ()
    assert isinstance(rejected, e.IntakeRejected)
    assert rejected.run_id == LATER
    assert not shard.early
    assert shard.intake[given.INBOX, 0].offset == 6
    assert intake.overdue(shard, AT) == ()


def test_early_command_for_a_run_that_never_comes_is_rejected_after_a_day() -> None:
    shard = given.shard_of()
    take(shard, intake.control(shard, signal(LATER), given.control_at(0), AT))

    in_time = intake.overdue(shard, AT + intake.EARLY_TTL_MS - 1)
    (rejected,) = take(shard, intake.overdue(shard, AT + intake.EARLY_TTL_MS))

    assert in_time == ()
    assert isinstance(rejected, e.IntakeRejected)
    assert "24 hours" in rejected.reason
    assert not shard.early
