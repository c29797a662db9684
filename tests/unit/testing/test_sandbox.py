"""The sandbox: the real engine in memory, for the tests of those who write workflows."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import uvloop
from pydantic import BaseModel

from stepfold import (
    App,
    Event,
    Retry,
    RunCancelled,
    RunFailed,
    StepFailed,
    current_run,
    event,
    step,
)
from stepfold.testing import Hold, RunNotOverError, Sandbox, SandboxError
from tests.unit.testing.on_loop import on_loop

app = App("research", retry=Retry(attempts=3, min_delay="10s", jitter=0))


class Question(BaseModel):
    query: str


class Report(BaseModel):
    found: list[str]
    is_approved: bool


@step(timeout="2m")
async def search(query: str) -> list[str]:
    raise ConnectionError("no network in tests")


@step
def count(words: list[str]) -> int:
    """In a thread, as plain functions are."""
    return len(words)


@app.workflow(on=event("agent/run", if_="event.data.query != ''"))
async def agent(question: Question) -> Report:
    found = await search(question.query)
    approved = await step.wait_for_signal("approval", bool, timeout="24h")
    return Report(found=found, is_approved=approved is True)


@app.workflow(on=event("agent/run"))
async def audit(question: Question) -> str:
    await step.sleep("settle", "90s")
    return f"{question.query} after {await count(question.query.split())} words"


@app.workflow
async def compensating() -> str:
    try:
        await step.wait_for_signal("never", str)
    except asyncio.CancelledError:
        await step.run("undo", lambda: None)
        raise
    return "done"


async def found(query: str) -> list[str]:
    return [f"found {query}"]


@on_loop
async def test_workflow_runs_to_its_typed_result() -> None:
    async with Sandbox(app, steps={"search": found}) as sandbox:
        run = await sandbox.start(agent, Question(query="tides"))
        await run.signal("approval", True)

        assert await run.result() == Report(found=["found tides"], is_approved=True)
        assert (run.status, run.workflow, run.waits) == ("completed", "agent", [])


@on_loop
async def test_step_tells_its_input_and_output_and_each_attempt() -> None:
    failures = [LookupError("first"), LookupError("second")]

    async def flaky(query: str) -> list[str]:
        if failures:
            raise failures.pop(0)
        return [query]

    async with Sandbox(app, steps={"search": flaky}) as sandbox:
        run = await sandbox.start(agent, Question(query="tides"))
        while run.status == "backoff":
            await sandbox.advance()

        tried = run.steps["search"]
        assert (tried.args, tried.kwargs, tried.output) == (["tides"], {}, ["tides"])
        begin = datetime(2027, 1, 1, tzinfo=UTC)
        assert [
            (attempt.number, attempt.status, attempt.error_message, attempt.started_at - begin)
            for attempt in tried.attempts
        ] == [
            (1, "failed", "first", timedelta()),
            (2, "failed", "second", timedelta(seconds=10)),
            (3, "completed", "", timedelta(seconds=30)),
        ]


@on_loop
async def test_time_stands_still_until_it_is_moved() -> None:
    async with Sandbox(app) as sandbox:
        run = await sandbox.start(audit, Question(query="high tides"))
        await sandbox.advance("89s")
        status_before = run.status
        await sandbox.advance("1s")

        assert status_before == "sleeping"
        assert await run.result() == "high tides after 2 words"
        assert sandbox.now == datetime(2027, 1, 1, 0, 1, 30, tzinfo=UTC)


@on_loop
async def test_what_is_due_happens_in_order_and_each_at_its_time() -> None:
    other = App("order")
    seen: list[tuple[str, int]] = []

    @other.workflow
    async def sleeper(seconds: int) -> None:
        await asyncio.sleep(seconds)
        seen.append((f"slept {seconds}", step.now().second))
        async with asyncio.timeout(5):
            await step.sleep("more", 4)
        seen.append((f"and {seconds}", step.now().second))

    async with Sandbox(other) as sandbox:
        for seconds in (30, 10, 20):
            await sandbox.start(sleeper, seconds)
        await sandbox.advance("1h")

    assert seen == [
        ("slept 10", 10), ("and 10", 14),
        ("slept 20", 20), ("and 20", 24),
        ("slept 30", 30), ("and 30", 34),
    ]  # fmt: skip


@on_loop
async def test_result_of_a_run_that_waits_says_for_what_and_what_to_do() -> None:
    async with Sandbox(app, steps={"search": found}) as sandbox:
        run = await sandbox.start(agent, Question(query="tides"))

        with pytest.raises(RunNotOverError) as caught:
            await run.result()

    assert caught.value.waits == (
        "signal 'approval': await run.signal('approval', ...), or the end of its timeout: "
        'await sandbox.advance("1d")',
    )
    assert str(caught.value).startswith(f"the run of 'agent' ({run.id}) is waiting, not over; it")


@on_loop
async def test_each_kind_of_waiting_is_told() -> None:
    hold = Hold()
    told: list[list[str]] = []
    async with Sandbox(app, steps={"search": failing, "count": hold}) as sandbox:
        first = await sandbox.start(agent, Question(query="tides"))
        second = await sandbox.start(audit, Question(query="tides"))
        told += [first.waits, second.waits]
        await first.pause()
        await sandbox.advance("90s")
        told += [first.waits, second.waits]

    assert told == [
        ["the next attempt of step 'search': await sandbox.advance(\"10s\")"],
        ["timer 'settle': await sandbox.advance(\"90s\")"],
        ["run.resume(), for it is paused"],
        ["the attempt of step 'count' that a Hold keeps: hold.release(value)"],
    ]


@on_loop
async def test_wait_times_out_when_time_says_so() -> None:
    async with Sandbox(app, steps={"search": found}) as sandbox:
        run = await sandbox.start(agent, Question(query="tides"))
        await sandbox.advance("24h")

        assert (await run.result()).is_approved is False


@on_loop
async def test_result_of_a_failed_run_is_its_error() -> None:
    async with Sandbox(app) as sandbox:
        run = await sandbox.start(agent, Question(query="tides"))
        await sandbox.advance("1m")

        with pytest.raises(RunFailed, match="'search' failed after 3 attempts: ConnectionError"):
            await run.result()
        assert run.status == "failed"


@on_loop
async def test_cancelled_run_compensates_and_says_why_it_ended() -> None:
    async with Sandbox(app) as sandbox:
        run = await sandbox.start(compensating)
        await run.cancel("wrong model")

        with pytest.raises(RunCancelled, match="wrong model"):
            await run.result()
        assert list(run.steps) == ["undo"]


@on_loop
async def test_signal_that_comes_early_is_kept() -> None:
    hold = Hold()
    async with Sandbox(app, steps={"search": hold}) as sandbox:
        run = await sandbox.start(agent, Question(query="tides"))
        await run.signal("approval", True)
        hold.release(["found"])

        assert (await run.result()).is_approved is True


@on_loop
async def test_command_that_the_run_refuses_is_an_error() -> None:
    async with Sandbox(app, steps={"search": found}) as sandbox:
        run = await sandbox.start(agent, Question(query="tides"))

        with pytest.raises(SandboxError, match="the payload is not what 'approval' waits for"):
            await run.signal("approval", "maybe")
        await run.signal("approval", True)
        with pytest.raises(SandboxError, match="the run is over"):
            await run.signal("approval", True)
        assert (await run.result()).is_approved is True


@on_loop
async def test_paused_run_starts_no_step_until_it_is_resumed() -> None:
    async with Sandbox(app) as sandbox:
        run = await sandbox.start(audit, Question(query="tides"))
        await run.pause()
        await sandbox.advance("1h")
        paused = (run.status, list(run.steps))
        await run.resume()

        assert paused == ("paused", [])
        assert await run.result() == "tides after 1 words"


@on_loop
async def test_event_starts_each_workflow_that_it_matches_once() -> None:
    async with Sandbox(app, steps={"search": found}) as sandbox:
        asked = Event[Any]("agent/run", data={"query": "tides"}, id="evt-1")
        started = await sandbox.send(asked)
        again = await sandbox.send(asked)
        none = await sandbox.send(Event("agent/other", data={}))
        one = await sandbox.send(Event("agent/run", data={"query": ""}))

        assert [run.workflow for run in started] == ["agent", "audit"]
        assert [run.id for run in again] == [started[0].id]
        assert none == []
        assert [run.workflow for run in one] == ["audit"]
        assert [run.workflow for run in sandbox.runs] == ["agent", "audit", "audit"]


@on_loop
async def test_start_with_a_key_that_was_used_is_the_first_run() -> None:
    async with Sandbox(app) as sandbox:
        first = await sandbox.start(audit, Question(query="a"), idempotency_key="q-17")
        again = await sandbox.start(audit, Question(query="b"), idempotency_key="q-17")

        assert again.id == first.id


@on_loop
async def test_invalid_input_fails_the_run_as_in_production() -> None:
    async with Sandbox(app) as sandbox:
        (run,) = await sandbox.send(Event("agent/run", data={"query": ""}))
        wrong: Any = {"query": 5}
        run = await sandbox.start(audit, wrong)

        with pytest.raises(RunFailed, match="at query: Input should be a valid string"):
            await run.result()


def counting_words(words: list[str]) -> int:
    return 7


async def failing(query: str) -> list[str]:
    raise LookupError(query)


async def which_run(query: str) -> list[str]:
    run = current_run()
    return [run.idempotency_key.removeprefix(run.id), str(run.attempt), query]


@on_loop
async def test_stand_ins_run_as_the_steps_do() -> None:
    stand_ins: dict[str, Callable[..., Any]] = {"search": which_run, "count": counting_words}
    async with Sandbox(app, steps=stand_ins, skip_time=True) as sandbox:
        run = await sandbox.start(agent, Question(query="tides"))
        other = await sandbox.start(audit, Question(query="tides"))

        assert (await run.result()).found == [":search", "1", "tides"]
        assert await other.result() == "tides after 7 words"


@on_loop
async def test_stand_in_must_return_what_the_step_declares() -> None:
    async with Sandbox(app, steps={"search": counting_words}) as sandbox:
        run = await sandbox.start(agent, Question(query="tides"))

        with pytest.raises(RunFailed, match=r"is not what its annotation says, list\[str\]"):
            await run.result()


@on_loop
async def test_time_is_skipped_only_while_a_result_is_awaited() -> None:
    async with Sandbox(app, steps={"search": found}, skip_time=True) as sandbox:
        run = await sandbox.start(agent, Question(query="tides"))
        other = await sandbox.start(audit, Question(query="tides"))
        await run.signal("approval", True)
        before = sandbox.now
        approved = (await run.result()).is_approved
        now = sandbox.now
        await other.result()

        assert (approved, now - before) == (True, timedelta())
        assert sandbox.now - before == timedelta(seconds=90)


@on_loop
async def test_run_that_nothing_can_bring_on_is_told_while_time_is_skipped() -> None:
    async with Sandbox(app, skip_time=True) as sandbox:
        run = await sandbox.start(compensating)

        with pytest.raises(RunNotOverError, match="signal 'never'"):
            await run.result()


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_sandbox_runs_on_whatever_loop_the_test_has(
    new_loop: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    async def main() -> str:
        async with Sandbox(app, skip_time=True) as sandbox:
            return await (await sandbox.start(audit, Question(query="tides"))).result()

    with asyncio.Runner(loop_factory=new_loop) as runner:
        assert runner.run(main()) == "tides after 1 words"


@on_loop
async def test_every_test_sees_the_same_ids_chance_and_history() -> None:
    lottery = App("lottery", retry=Retry(attempts=2))

    @lottery.workflow
    async def draw() -> list[str]:
        try:
            await step.run("fail", failing, "no such lottery")
        except StepFailed:
            return [str(step.uuid()), str(step.random().random()), step.now().isoformat()]
        return []

    async def one() -> tuple[object, ...]:
        async with Sandbox(lottery, skip_time=True) as sandbox:
            run = await sandbox.start(draw)
            return (run.id, await run.result(), [type(event).__name__ for event in run.events])

    assert await one() == await one()
