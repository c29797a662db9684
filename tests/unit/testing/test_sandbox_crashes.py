"""Crashes, deploys, and what happens in the middle of a step."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from stepfold import App, Event, Retry, RunFailed, StepFailed, step
from stepfold.testing import Hold, RunNotOverError, Sandbox
from tests.unit.testing.on_loop import on_loop

app = App("crashes", retry=Retry(attempts=2, min_delay="10s", jitter=0))


@step(timeout="2m")
async def fetch(number: int) -> int:
    return number


@step
async def store(number: int) -> int:
    return number


@app.workflow
async def pipeline(numbers: list[int]) -> list[int]:
    fetched = await asyncio.gather(*(fetch(number) for number in numbers))
    await step.sleep("settle", "1h")
    approved = await step.wait_for_signal("approval", bool, timeout="24h")
    return [await store(number) for number in fetched if approved is None]


class Counting:
    """Counts the calls of a step, and returns what it was given."""

    def __init__(self) -> None:
        self.seen: list[int] = []

    async def __call__(self, number: int) -> int:
        self.seen.append(number)
        return number


@on_loop
async def test_completed_steps_do_not_run_again_wherever_the_worker_crashes() -> None:
    fetched, stored = Counting(), Counting()
    async with Sandbox(app, steps={"fetch": fetched, "store": stored}) as sandbox:
        run = await sandbox.start(pipeline, [1, 2, 3])
        await sandbox.crash()
        for _ in range(5):
            await sandbox.advance("6h")
            await sandbox.crash()

        assert await run.result() == [1, 2, 3]
    assert (fetched.seen, stored.seen) == ([1, 2, 3], [1, 2, 3])


@on_loop
async def test_step_in_flight_is_lost_with_its_worker_and_tried_again() -> None:
    hold = Hold()
    async with Sandbox(app, steps={"store": hold}) as sandbox:
        run = await sandbox.start(pipeline, [5])
        await sandbox.advance("25h")
        await sandbox.crash()
        calls = len(hold.calls)
        hold.release(50)

        assert await run.result() == [50]
        assert [attempt.status for attempt in run.steps["store"].attempts] == ["lost", "completed"]
        assert calls == 2


@on_loop
async def test_step_times_out_by_the_clock_of_the_test() -> None:
    hold = Hold()
    async with Sandbox(app, steps={"fetch": hold}) as sandbox:
        run = await sandbox.start(pipeline, [5])
        await sandbox.advance("119s")
        still_held = hold.waiting
        await sandbox.advance("1s")
        after = (run.status, hold.waiting, run.steps["fetch"].attempts[0].error_type)
        await sandbox.advance("3m")

        assert still_held == 1
        assert after == ("backoff", 0, "StepTimeout")
        with pytest.raises(RunFailed, match="'fetch' failed after 2 attempts: StepTimeout"):
            await run.result()


@on_loop
async def test_step_in_flight_of_a_cancelled_run_is_given_up() -> None:
    hold = Hold()
    async with Sandbox(app, steps={"fetch": hold}) as sandbox:
        run = await sandbox.start(pipeline, [1, 2])
        held = hold.waiting
        await run.cancel("enough")

        assert held == 2
        assert (run.status, hold.waiting) == ("cancelled", 0)
        assert {record.status for record in run.steps.values()} == {"cancelled"}


@on_loop
async def test_held_step_ends_as_the_test_says() -> None:
    hold = Hold()
    async with Sandbox(app, steps={"fetch": hold}) as sandbox:
        run = await sandbox.start(pipeline, [1, 2])
        hold.release(10)
        hold.fail(LookupError("no such number"))
        await sandbox.settle()

        assert hold.calls == [((1,), {}), ((2,), {})]
        assert run.steps["fetch"].output == 10
        assert run.steps["fetch#2"].attempts[0].error_message == "no such number"


def deployed(*, is_typed_anew: bool, calls: list[str]) -> App:
    """The app's code before a deploy, and after it."""
    new = App("crashes")

    async def look() -> dict[str, int]:
        calls.append("look")
        return {"answer": 42}

    async def look_anew() -> list[str]:
        raise NotImplementedError

    @new.workflow
    async def looking() -> str:  # pyright: ignore[reportUnusedFunction]
        seen: Any = await step.run("look", look_anew if is_typed_anew else look)
        await step.wait_for_signal("go", bool)
        return str(seen)

    return new


@on_loop
async def test_deploy_that_cannot_read_a_recorded_result_parks_the_run_until_one_can() -> None:
    calls: list[str] = []
    old = deployed(is_typed_anew=False, calls=calls)
    async with Sandbox(old) as sandbox:
        run = await sandbox.start(old.workflows["looking"])
        await sandbox.deploy(deployed(is_typed_anew=True, calls=calls))
        with pytest.raises(RunNotOverError) as caught:
            await run.result()
        await sandbox.deploy(deployed(is_typed_anew=False, calls=calls))
        await run.resume()
        await run.signal("go", True)

        assert caught.value.status == "parked"
        assert "is not what the code declares now, list[str]" in caught.value.waits[0]
        assert await run.result() == "{'answer': 42}"
        assert calls == ["look"]


@on_loop
async def test_run_whose_workflow_is_not_deployed_waits_for_it() -> None:
    async with Sandbox(app, skip_time=True) as sandbox:
        run = await sandbox.start(pipeline, [1])
        await sandbox.deploy(App("crashes"))
        waits = run.waits
        await sandbox.deploy(app)

        assert "workflow 'pipeline', which the app does not have" in " ".join(waits)
        assert await run.result() == [1]


family = App("family")


@family.workflow
async def double(number: int) -> int:
    if number < 0:
        raise ValueError("negative")
    await step.sleep("nap", "1m")
    return 2 * number


@family.workflow
async def parent(number: int) -> str:
    try:
        doubled = await step.invoke("double", double, number)
    except StepFailed as failure:
        return failure.error_message
    await step.send_event("tell", Event("doubled", data=doubled), app="billing")
    return f"{doubled}"


@on_loop
async def test_child_runs_and_sent_events_are_seen() -> None:
    async with Sandbox(family) as sandbox:
        run = await sandbox.start(parent, 21)
        waits = run.waits
        await sandbox.crash()
        await sandbox.advance("1m")

        assert await run.result() == "42"
        assert [each.workflow for each in sandbox.runs] == ["parent", "double"]
        assert waits == [f"child run {sandbox.runs[1].id} of 'double': see it in sandbox.runs"]
        assert [(told.name, told.data) for told in await sandbox.sent_to("billing")] == [
            ("doubled", 42)
        ]


@on_loop
async def test_failed_child_fails_its_call() -> None:
    async with Sandbox(family) as sandbox:
        run = await sandbox.start(parent, -1)

        assert await run.result() == "negative"
