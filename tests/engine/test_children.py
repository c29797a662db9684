"""Runs that start runs and send events, through the real outbox and intake."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from stepfold import App, Event, Retry, StepFailed, event, step
from stepfold.core import commands as c
from stepfold.core import events as e
from stepfold.core.ids import is_child, parse_run_id
from stepfold.journal.codec import decode_command, encode_command
from tests.engine.stage import APP, Stage, play


def declare(app: App) -> None:
    declare_children(app)
    double, endless = app.workflows["double"], app.workflows["endless"]
    declare_impatient(app)

    @app.workflow
    async def family(number: int) -> list[int]:  # pyright: ignore[reportUnusedFunction]
        return await asyncio.gather(
            *(step.invoke("twice", double, number + n) for n in range(3)),
            step.invoke("by-name", "double", 50),
        )

    @app.workflow
    async def waits() -> None:  # pyright: ignore[reportUnusedFunction]
        await step.invoke("child", endless)

    @app.workflow
    async def starts() -> str:  # pyright: ignore[reportUnusedFunction]
        return await step.start("child", double, 21)

    @app.workflow
    async def sends() -> list[str]:  # pyright: ignore[reportUnusedFunction]
        first = await step.send_event("tell", Event("order/paid", data={"amount": 7}, id="evt-7"))
        return [first, await step.send_event("tell", Event("order/paid", data={"amount": 8}))]

    @app.workflow
    async def astray(where: str) -> Any:  # pyright: ignore[reportUnusedFunction]
        return await step.invoke("child", where)


def declare_children(app: App) -> None:
    @app.workflow
    async def double(number: int) -> int:  # pyright: ignore[reportUnusedFunction]
        return number * 2

    @app.workflow
    async def fails() -> None:  # pyright: ignore[reportUnusedFunction]
        raise ValueError("no such city")

    @app.workflow
    async def endless() -> None:  # pyright: ignore[reportUnusedFunction]
        await step.wait_for_signal("never", bool)

    @app.workflow(on=event("order/paid"))
    async def paid(data: dict[str, int]) -> int:  # pyright: ignore[reportUnusedFunction]
        return data["amount"]


def declare_impatient(app: App) -> None:
    fails, endless = app.workflows["fails"], app.workflows["endless"]

    @app.workflow
    async def catches() -> str:  # pyright: ignore[reportUnusedFunction]
        try:
            await step.invoke("child", fails)
        except StepFailed as failure:
            return f"{failure.error_type}: {failure.error_message}"
        return "it did not fail"

    @app.workflow
    async def impatient() -> str:  # pyright: ignore[reportUnusedFunction]
        try:
            await step.invoke("child", endless, timeout="50ms")
        except StepFailed as failure:
            return failure.error_type
        return "it ended"

    @app.workflow
    async def races() -> str:  # pyright: ignore[reportUnusedFunction]
        slow = asyncio.ensure_future(step.invoke("child", endless))
        await step.sleep("a moment", "20ms")
        slow.cancel()
        return "over"


def children_of(there: Stage, run_id: str) -> list[str]:
    return [event.child_run_id for event in there.of(e.ChildRequested, run_id)]


async def none_unacked(there: Stage) -> None:
    """Until the history shows that Kafka has all deliveries."""

    def all_acked() -> bool:
        sent = [out for r in there.history for out in getattr(r.event, "out", ())]
        acked = {event.target: event.upto for event in there.of(e.OutboxAcked)}
        return all(out.n <= acked.get(out.target, 0) for out in sent)

    await there.until(all_acked)


def test_children_run_and_their_results_come_back() -> None:
    async def scene(there: Stage) -> None:
        run_id = there.start("family", 1)

        assert await there.result_of(run_id) == [2, 4, 6, 100]
        children = children_of(there, run_id)
        assert len(set(children)) == 4
        assert all(is_child(parse_run_id(child)) for child in children)
        await none_unacked(there)

    play(declare, scene)


@pytest.mark.parametrize(
    ("workflow", "result"),
    [("catches", "ValueError: no such city"), ("impatient", "TimeoutError"), ("races", "over")],
)
def test_child_that_does_not_complete_fails_its_step(workflow: str, result: str) -> None:
    async def scene(there: Stage) -> None:
        run_id = there.start(workflow)

        assert await there.result_of(run_id) == result
        (child,) = children_of(there, run_id)
        assert isinstance(await there.end_of(child), e.RunFailed | e.RunCancelled)

    play(declare, scene)


def test_cancelled_run_cancels_the_child_that_it_waits_for() -> None:
    async def scene(there: Stage) -> None:
        run_id = there.start("waits")
        await there.first(e.ChildRequested, run_id)
        (child,) = children_of(there, run_id)
        await there.first(e.WaitOpened, child)

        there.command(c.Cancel(run_id=run_id, by="me", reason="wrong model"))

        assert isinstance(await there.end_of(run_id), e.RunCancelled)
        assert isinstance(await there.end_of(child), e.RunCancelled)

    play(declare, scene)


def test_run_that_is_started_only_goes_its_own_way() -> None:
    async def scene(there: Stage) -> None:
        run_id = there.start("starts")

        child = await there.result_of(run_id)

        assert children_of(there, run_id) == [child]
        assert await there.result_of(child) == 42
        assert not there.of(e.ChildResolved)

    play(declare, scene)


def test_sent_events_start_runs_and_a_repetition_of_their_id_does_not() -> None:
    async def scene(there: Stage) -> None:
        ids = await there.result_of(there.start("sends"))
        again = await there.result_of(there.start("sends"))
        await there.first(e.RunDeduplicated)
        await there.until(lambda: len(there.of(e.RunCompleted)) >= 5)

        assert ids[0] == again[0] == "evt-7"
        assert ids[1] != again[1]
        amounts = [r.payload for r in there.of(e.RunCompleted) if r.payload in (b"7", b"8")]
        assert sorted(amounts) == [b"7", b"8", b"8"]

    play(declare, scene)


def test_child_of_an_app_that_is_not_there_fails_its_step() -> None:
    async def scene(there: Stage) -> None:
        failure = await there.failure_of(there.start("astray", "nobody/work"))

        assert failure.error_type == "StepFailed"
        assert "nobody" in failure.error_message

    play(declare, scene)


def test_child_of_a_workflow_that_is_not_deployed_waits_for_it_visibly() -> None:
    async def scene(there: Stage) -> None:
        run_id = there.start("astray", "later")
        await there.first(e.ChildRequested, run_id)
        (child,) = children_of(there, run_id)
        waiting = await there.first(e.WaitOpened, child)

        await there.members[0].kill()
        newer = App(APP, retry=Retry())
        declare(newer)

        @newer.workflow("later")
        async def later() -> str:  # pyright: ignore[reportUnusedFunction]
            return "here"

        there.join("newer", newer)

        assert waiting.kind == "definition"
        assert await there.result_of(run_id) == "here"
        await there.members[1].kill()
        there.join("as before")

    play(declare, scene)


@pytest.mark.parametrize("at", [e.ChildRequested, e.RunAccepted, e.RunCompleted, e.ChildResolved])
def test_crash_at_any_station_of_a_child_loses_and_doubles_nothing(at: type[e.Event]) -> None:
    async def scene(there: Stage) -> None:
        run_id = there.start("family", 1)
        before = len(there.of(at))
        await there.until(lambda: len(there.of(at)) > before)
        await there.members[0].kill()
        there.join("successor")

        assert await there.result_of(run_id) == [2, 4, 6, 100]
        accepted = [r.run_id for r in there.of(e.RunAccepted)]
        assert len(accepted) == len(set(accepted))
        assert len(there.of(e.ChildResolved, run_id)) == 4
        await none_unacked(there)

    play(declare, scene)


def test_forged_and_repeated_deliveries_start_nothing() -> None:
    async def scene(there: Stage) -> None:
        child = await there.result_of(there.start("starts"))
        await there.result_of(child)
        control = there.cluster.records(there.topics.control.name, 0)
        (delivery,) = (r for r in control if r.value and _is_delivery(r.value))
        assert delivery.value is not None
        wrapped = decode_command(delivery.value)
        assert isinstance(wrapped, c.Deliver)

        there.put_control(delivery.value)
        there.put_control(encode_command(wrapped.body))
        ahead = c.Deliver(from_shard="stage/0", n=99, run_id=child, body=wrapped.body)
        there.put_control(encode_command(ahead))
        await there.until(lambda: there.dlq)

        assert len([r for r in there.of(e.RunAccepted) if r.run_id == child]) == 1

    play(declare, scene)


def _is_delivery(value: bytes) -> bool:
    return isinstance(decode_command(value), c.Deliver)
