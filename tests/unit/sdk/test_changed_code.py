"""New code on the recordings of old code: what may change, and what is noticed when it does."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Literal

from pydantic import BaseModel

from stepfold import App, step
from stepfold.core.outcomes import StepSucceeded, TimerElapsed
from stepfold.engine.live import call_id
from stepfold.sdk.activation import WorkflowInstance
from stepfold.sdk.calls import Completed, Completion
from stepfold.sdk.failures import ERROR_TEXT_MAX
from stepfold.sdk.workflow import WorkflowDefinition
from tests.unit.sdk.played import START, Play, play, replay

Workflow = Callable[[], Coroutine[Any, Any, Any]]


@step
async def echo(value: int) -> int:
    return value


@step
async def first() -> str:
    return "first"


@step
async def second() -> str:
    return "second"


@step
async def third() -> str:
    return "third"


def defined(function: Workflow) -> WorkflowDefinition[Any, Any]:
    return App("changed").workflow("same")(function)


async def old() -> list[str]:
    return [await first(), await second(), str(await step.wait_for_signal("go", str))]


def in_flight() -> Play:
    """The old code, having done its two steps, waits for a signal."""
    recorded = play(defined(old))
    assert [type(outcome).__name__ for outcome in recorded.outcomes] == ["StepSucceeded"] * 2
    return recorded


def test_inserted_step_is_called_and_the_recorded_ones_are_not_again() -> None:
    async def new() -> list[str]:
        return [await third(), await first(), await second()]

    replayed = replay(in_flight(), defined(new))

    assert replayed.calls == ["third"]
    assert replayed.end is None


def test_step_inserted_between_recorded_ones_gets_their_results_when_its_own_is_there() -> None:
    async def new() -> list[str]:
        return [await first(), await third(), await second()]

    instance, seen = replayed(in_flight(), new)
    completion = instance.activate(StepSucceeded(START, "third", b'"3"', "json"), replaying=False)
    instance.close()

    assert [call_id(call) for done in seen for call in done.calls] == ["first", "third"]
    assert completion.end == Completed(payload=b'["first","3","second"]')


def test_removed_step_leaves_the_others_their_results() -> None:
    async def new() -> list[str]:
        return [await second(), str(await step.wait_for_signal("go", str))]

    replayed = replay(in_flight(), defined(new))

    assert replayed.calls == ["second", "go"]
    assert replayed.completions[-1].calls == replayed.completions[2].calls
    assert replayed.end is None


def test_reordered_steps_keep_their_results() -> None:
    async def new() -> list[str]:
        return [await second(), await first()]

    assert replay(in_flight(), defined(new)).result == ["second", "first"]


def test_recorded_steps_that_are_never_called_any_more_harm_nobody() -> None:
    async def new() -> str:
        return await step.run("other", lambda: "other")

    replayed = replay(in_flight(), defined(new))

    assert replayed.calls == ["other"]
    assert replayed.end is None


def test_loop_that_reorders_keeps_its_results_by_key() -> None:
    async def squares(numbers: list[int]) -> list[int]:
        return [await echo.options(key=str(number))(number) for number in numbers]

    async def before() -> list[int]:
        return await squares([1, 2, 3])

    async def after() -> list[int]:
        return await squares([3, 1, 2])

    assert replay(play(defined(before)), defined(after)).result == [3, 1, 2]


def test_replayed_call_with_another_input_gets_the_recorded_result() -> None:
    async def before() -> int:
        return await echo(1)

    async def after() -> int:
        return await echo(2)

    assert replay(play(defined(before)), defined(after)).result == 1


def test_timeout_that_is_inserted_does_not_fire_for_the_sleep_that_did() -> None:
    async def before() -> str:
        await asyncio.sleep(10)
        return await first()

    async def after() -> str:
        async with asyncio.timeout(3_600):
            await asyncio.sleep(10)
        return await first()

    assert replay(play(defined(before)), defined(after)).result == "first"


def test_timers_that_are_due_together_after_a_pause_fire_as_they_were_due() -> None:
    async def workflow() -> str:
        async with asyncio.timeout(60):
            await asyncio.sleep(50)
        return "in time"

    instance, (begun,) = replayed(Play(defined(workflow)), workflow)
    assert sorted(begun.timers.values()) == [START + 50_000, START + 60_000]
    # The worker was away until 70 s, and then records both.
    completions = [
        instance.activate(TimerElapsed(START + 70_000, name), replaying=False)
        for name in begun.timers
    ]
    instance.close()

    assert completions[0].end == Completed(payload=b'"in time"')


class Answer(BaseModel):
    text: str
    score: int


class AnswerWithSources(Answer):
    sources: list[str]


def parked_by(before: Workflow, after: Workflow, **options: Any) -> str:
    recorded = play(defined(before), **options)
    return replay(recorded, defined(after)).parked.message


def test_return_type_that_takes_no_recorded_result_parks_the_run_with_the_difference() -> None:
    async def answer() -> Answer:
        return Answer(text="tides", score=1)

    async def answer_with_sources() -> AnswerWithSources:
        raise NotImplementedError

    async def before() -> None:
        await step.run("answer", answer)
        await step.wait_for_signal("go", str)

    async def after() -> None:
        try:
            await step.run("answer", answer_with_sources)
        except Exception:  # noqa: BLE001 - the workflow must not be able to catch it
            await first()

    assert parked_by(before, after) == (
        "the recorded result of 'answer' is not what the code declares now, AnswerWithSources: "
        "at sources: Field required, got {'text': 'tides', 'score': 1}; "
        "deploy code that takes what is recorded, then resume the run"
    )


def test_result_that_the_new_type_takes_comes_back_as_that_type() -> None:
    async def plain() -> dict[str, Any]:
        return {"text": "tides", "score": "5"}

    async def typed() -> Answer:
        raise NotImplementedError

    async def before() -> None:
        await step.run("answer", plain)

    async def after() -> list[object]:
        answer = await step.run("answer", typed)
        return [type(answer).__name__, answer.score]

    assert replay(play(defined(before)), defined(after)).result == ["Answer", 5]


def test_signal_of_another_type_than_recorded_parks_the_run() -> None:
    async def before() -> None:
        await step.wait_for_signal("approval", str)
        await step.wait_for_signal("never", str)

    async def after() -> None:
        await step.wait_for_signal("approval", Literal["yes", "no"])

    message = parked_by(before, after, signals={"approval": "maybe"})

    assert "the recorded result of 'approval' is not what the code declares now" in message
    assert "Input should be 'yes' or 'no', got 'maybe'" in message


def test_difference_of_a_large_result_is_told_in_short() -> None:
    async def words() -> list[str]:
        return ["x" * 100] * 5_000

    async def numbers() -> list[int]:
        raise NotImplementedError

    async def before() -> None:
        await step.run("some", words)

    async def after() -> None:
        await step.run("some", numbers)

    message = parked_by(before, after)

    assert "at 0: Input should be a valid integer" in message
    assert "and 4990 more" in message
    assert len(message) < ERROR_TEXT_MAX


def test_name_that_is_of_another_kind_of_call_now_parks_the_run() -> None:
    async def sleeping() -> None:
        await step.sleep("pause", 5)

    async def waiting() -> None:
        await step.wait_for_signal("pause", str, timeout=5)

    async def calling() -> None:
        await step.run("pause", lambda: None)

    assert "'pause' was a sleep and is a step in the code now" in parked_by(sleeping, calling)
    assert "'pause' was a sleep and is a wait for a signal in" in parked_by(sleeping, waiting)
    assert "'pause' was a wait for a signal and is a step" in parked_by(waiting, calling)
    assert "'pause' was a step and is a sleep" in parked_by(calling, sleeping)


def replayed(recorded: Play, function: Workflow) -> tuple[WorkflowInstance, list[Completion]]:
    """The new code where the recording ends, still open."""
    instance = Play(defined(function)).instance()
    outcomes = (None, *recorded.outcomes)
    return instance, [instance.activate(outcome, replaying=True) for outcome in outcomes]
