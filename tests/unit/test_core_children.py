"""Runs that start runs: what both shards record, and what is taken of a delivery."""

from __future__ import annotations

from stepfold.core import children, intake
from stepfold.core import commands as c
from stepfold.core import events as e
from stepfold.core.ids import is_child, parse_run_id, short_topic_id
from stepfold.core.outcomes import ChildErrored, ChildReturned
from stepfold.core.run import Run
from stepfold.core.shard import Shard, evolve
from tests.unit import core_samples as given

AT = given.AT
PARENT_SHARD = "research/0"
PARTITIONS = 4


def request(shard: Shard, step: str = "sub", *, awaited: bool = True) -> e.ChildRequested:
    event = children.request_child(
        shard,
        shard.runs[given.RUN],
        step,
        shard_name=PARENT_SHARD,
        app="research",
        workflow="agent",
        payload=b"{}",
        topic=short_topic_id(given.INBOX),
        partitions=PARTITIONS,
        is_awaited=awaited,
        expires_at=AT + 100,
    )
    evolve(shard, event, AT, given.EPOCH)
    return event


def delivery(event: e.ChildRequested | e.ChildResolved | e.RunCompleted) -> c.Deliver:
    (out,) = event.out
    assert not isinstance(out.body, c.Trigger)
    return c.Deliver(from_shard=PARENT_SHARD, n=out.n, run_id=out.body.run_id, body=out.body)


def accept(shard: Shard, sent: c.Deliver) -> tuple[e.RunAccepted, ...]:
    start = e.RunStart(sent.run_id, "agent", "hash", "", "", 0)
    events = intake.accept_child(shard, "research", sent, given.control_at(0), start)
    for event in events:
        evolve(shard, event, AT, given.EPOCH)
    return events


def outcomes(shard: Shard) -> list[object]:
    return list(shard.runs[given.RUN].outcomes)


def child_of(shard: Shard, sent: c.Deliver) -> Run:
    accept(shard, sent)
    return shard.runs[sent.run_id]


def test_id_of_a_child_names_its_home_and_is_that_of_no_trigger() -> None:
    event = request(given.shard_of())

    address = parse_run_id(event.child_run_id)

    assert event.out[0].target == f"research.control/{address.partition}"
    assert is_child(address)
    assert not is_child(parse_run_id(given.RUN))


def test_deliveries_to_a_target_are_numbered_without_gaps() -> None:
    shard = given.shard_of()

    numbers: dict[str, list[int]] = {}
    for number in range(20):
        (out,) = request(shard, f"sub#{number}").out
        numbers.setdefault(out.target, []).append(out.n)

    assert len(numbers) == PARTITIONS
    assert all(seen == list(range(1, len(seen) + 1)) for seen in numbers.values())


def test_acknowledged_deliveries_are_kept_no_longer() -> None:
    shard = given.shard_of()
    target = request(shard).out[0].target
    before = len(shard.outbox[target].unacked)

    evolve(shard, e.OutboxAcked(target=target, upto=1), AT, given.EPOCH)

    assert before == 1
    assert not shard.outbox[target].unacked
    assert shard.outbox[target].last == 1


def test_delivery_is_taken_once_and_in_its_turn() -> None:
    source, target = given.shard_of(), Shard()
    first = delivery(request(source))
    later = c.Deliver(from_shard=PARENT_SHARD, n=3, run_id=first.run_id, body=first.body)

    taken = accept(target, first)
    again = accept(target, first)
    ahead = accept(target, later)

    assert [event.run_id for event in taken] == [first.run_id]
    assert again == ahead == ()
    assert target.inbound == {PARENT_SHARD: 1}


def test_result_of_a_child_is_an_outcome_of_the_step_that_waits() -> None:
    parents, childs = given.shard_of(), Shard()
    child = child_of(childs, delivery(request(parents)))
    out = children.resolution(childs, child, "completed", payload=b"42")
    sent = c.Deliver(from_shard="research/2", n=1, run_id=given.RUN, body=_body(out))

    (event,) = intake.control(parents, sent, given.control_at(3), AT)
    evolve(parents, event, AT, given.EPOCH)

    assert out[0].target == "research.control/0"
    assert outcomes(parents) == [ChildReturned(AT, "sub", b"42", "json")]
    assert not parents.runs[given.RUN].children


def test_child_that_nobody_waits_for_is_an_outcome_at_once_and_tells_nobody_its_end() -> None:
    parents, childs = given.shard_of(), Shard()
    event = request(parents, awaited=False)
    child = child_of(childs, delivery(event))

    assert outcomes(parents) == [
        ChildReturned(AT, "sub", f'"{event.child_run_id}"'.encode(), "json")
    ]
    assert children.resolution(childs, child, "completed", payload=b"42") == ()


def test_wait_for_a_child_that_takes_too_long_ends_and_cancels_it() -> None:
    parents, childs = given.shard_of(), Shard()
    started = delivery(request(parents))
    child = child_of(childs, started)
    run = parents.runs[given.RUN]
    before = list(children.due_children(parents, run, AT + 99))

    (event,) = children.due_children(parents, run, AT + 100)
    evolve(parents, event, AT + 100, given.EPOCH)
    (cancel,) = intake.control(childs, delivery(event), given.control_at(1), AT + 101)
    evolve(childs, cancel, AT + 101, given.EPOCH)

    assert before == []
    assert isinstance(outcomes(parents)[0], ChildErrored)
    assert child.cancel_reason == "its parent waited long enough"


def test_result_that_comes_after_the_wait_is_counted_and_nothing_else() -> None:
    parents, childs = given.shard_of(), Shard()
    child = child_of(childs, delivery(request(parents)))
    run = parents.runs[given.RUN]
    evolve(parents, children.give_up_child(parents, run, "sub", "given up"), AT, given.EPOCH)
    out = children.resolution(childs, child, "completed", payload=b"42")
    late = c.Deliver(from_shard="research/2", n=1, run_id=given.RUN, body=_body(out))

    (event,) = intake.control(parents, late, given.control_at(3), AT)
    evolve(parents, event, AT, given.EPOCH)

    assert outcomes(parents) == []
    assert parents.inbound == {"research/2": 1}


def test_cancel_of_a_child_that_is_over_is_counted_and_rejected_visibly() -> None:
    cancel = c.Cancel(run_id=given.RUN, by="run x", reason="")
    shard = given.shard_of([e.RunCancelled(run_id=given.RUN, reason="")])
    sent = c.Deliver(from_shard="research/2", n=1, run_id=given.RUN, body=cancel)

    (event,) = intake.control(shard, sent, given.control_at(3), AT)
    evolve(shard, event, AT, given.EPOCH)

    assert isinstance(event, e.IntakeRejected)
    assert shard.inbound == {"research/2": 1}


def test_sent_event_has_an_id_that_is_the_same_whenever_it_is_sent() -> None:
    shard = given.shard_of()
    run = shard.runs[given.RUN]

    event = children.send_event(
        shard,
        run,
        "tell",
        app="billing",
        name="order/paid",
        payload=b"{}",
        event_id="",
        key="",
        partitions=PARTITIONS,
    )
    evolve(shard, event, AT, given.EPOCH)

    (out,) = event.out
    assert isinstance(out.body, c.Trigger)
    assert out.body.id == f"{given.RUN}:tell"
    assert out.target.startswith("billing.inbox/")
    assert outcomes(shard) == [ChildReturned(AT, "tell", f'"{given.RUN}:tell"'.encode(), "json")]


def _body(out: tuple[e.Out, ...]) -> c.Delivered:
    (only,) = out
    assert not isinstance(only.body, c.Trigger)
    return only.body
