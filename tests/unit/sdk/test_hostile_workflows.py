"""Whatever a workflow's code does becomes its run's end: nothing gets out of `activate`.

A worker runs thousands of runs on one loop. One that could raise into it, spin on it or
poison an event with its error text would end them all.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import math
import time
import warnings
from collections.abc import Callable, Coroutine
from typing import Annotated, Any, NoReturn

import pytest
from pydantic import AfterValidator, PlainSerializer, TypeAdapter

from stepfold import App, StepFailed, step
from stepfold.core.outcomes import StepSucceeded
from stepfold.sdk.calls import Parked
from stepfold.sdk.failures import ERROR_TEXT_MAX, failure_of
from stepfold.sdk.loop import CALLBACKS_PER_ACTIVATION_MAX
from stepfold.sdk.names import STEPS_MAX
from tests.unit.sdk.played import START, Play, assert_replays_from_everywhere, play, replay

Workflow = Callable[[], Coroutine[Any, Any, Any]]


@step
async def echo(value: int) -> int:
    return value


@step
async def fail() -> None:
    raise LookupError("always")


def played(function: Workflow, **options: Any) -> Play:
    return play(App("hostile").workflow(function), **options)


def raised_by(kind: Callable[[str], BaseException], text: str = "out") -> Workflow:
    async def workflow() -> NoReturn:
        await echo(1)
        raise kind(text)

    return workflow


def raised_by_a_child(kind: type[BaseException], *, is_awaited: bool) -> Workflow:
    async def workflow() -> None:
        task = asyncio.create_task(raised_by(kind)())
        if is_awaited:
            await task
        await step.wait_for_signal("never", str)

    return workflow


BASE_EXCEPTIONS = [SystemExit, KeyboardInterrupt, GeneratorExit, MemoryError, RecursionError]


@pytest.mark.parametrize("kind", [*BASE_EXCEPTIONS, asyncio.CancelledError, StopIteration])
def test_whatever_is_raised_is_the_end_of_the_run(kind: type[BaseException]) -> None:
    recorded = played(raised_by(kind))

    # Python itself turns a StopIteration out of a coroutine into a RuntimeError.
    assert recorded.error.error_type in (kind.__name__, "RuntimeError")
    assert_replays_from_everywhere(recorded)


@pytest.mark.parametrize("kind", BASE_EXCEPTIONS)
def test_whatever_a_child_raises_is_the_end_of_the_run_that_awaits_it(
    kind: type[BaseException],
) -> None:
    recorded = played(raised_by_a_child(kind, is_awaited=True))

    assert recorded.error.error_type == kind.__name__
    assert_replays_from_everywhere(recorded)


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt])
def test_child_that_wants_to_end_the_program_ends_its_run(kind: type[BaseException]) -> None:
    recorded = played(raised_by_a_child(kind, is_awaited=False))

    assert recorded.error.error_type == kind.__name__
    assert_replays_from_everywhere(recorded)


def test_error_of_a_child_that_nobody_awaits_is_logged_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def workflow() -> int:
        task = asyncio.create_task(raised_by(ValueError, "forgotten")())
        await echo(1)
        await echo(2)
        del task
        return await echo(3)

    with caplog.at_level(logging.ERROR, "stepfold.run"):
        recorded = played(workflow)
        replay(recorded)

    assert recorded.result == 3
    (line,) = [record for record in caplog.records if record.exc_info]
    assert "forgotten" in str(line.exc_info[1] if line.exc_info else "")
    assert getattr(line, "run_id", "") == "run-1"


class Unprintable(Exception):  # noqa: N818 - it is its text that is the error
    def __str__(self) -> str:
        raise SystemExit("no text")


def test_error_whose_text_cannot_be_had_is_recorded_by_its_type() -> None:
    recorded = played(raised_by(Unprintable))

    assert recorded.error.error_type == "Unprintable"
    assert "Unprintable" in recorded.error.error_message


def test_text_that_utf8_cannot_hold_is_written_out() -> None:
    recorded = played(raised_by(ValueError, "half a pair: \ud83d"))

    assert recorded.error.error_message == r"half a pair: \ud83d"
    recorded.error.error_stack.encode()


def test_texts_of_errors_are_cut_visibly() -> None:
    recorded = played(raised_by(ValueError, "x" * 2_000_000))

    message, stack = recorded.error.error_message, recorded.error.error_stack
    assert message.startswith("xxx")
    assert message.endswith("… (1984000 more characters cut)")
    assert len(stack) < ERROR_TEXT_MAX + 100


def test_validation_report_of_a_long_list_is_short() -> None:
    async def workflow() -> None:
        TypeAdapter(list[int]).validate_python(["x"] * 50_000)

    recorded = played(workflow)

    assert len(recorded.error.error_message) < ERROR_TEXT_MAX + 100


def test_long_chain_of_causes_is_recorded_in_short() -> None:
    error: Exception = ValueError("first")
    for number in range(3_000):
        following = ValueError(str(number))
        following.__cause__, error = error, following

    failure = failure_of(error)

    assert failure.message == "2999"
    assert len(failure.stack) < ERROR_TEXT_MAX + 100


def test_unending_recursion_is_the_end_of_the_run() -> None:
    async def deeper(depth: int) -> int:
        return await deeper(depth + 1)

    async def workflow() -> int:
        return await deeper(0)

    assert played(workflow).error.error_type == "RecursionError"


def test_endless_loop_of_turns_is_the_end_of_the_run() -> None:
    async def workflow() -> None:
        while True:
            await asyncio.gather(asyncio.sleep(0))

    before = time.perf_counter()
    recorded = played(workflow)

    assert recorded.error.error_type == "EndlessLoopError"
    assert f"{CALLBACKS_PER_ACTIVATION_MAX} turns" in recorded.error.error_message
    assert time.perf_counter() - before < 10  # 0.1 s, on a machine that has nothing else to do


def test_loop_of_wrong_calls_that_catches_everything_is_seen_to_spin() -> None:
    async def workflow() -> None:
        while True:
            with contextlib.suppress(Exception):
                await step.run("send", echo, 1, timeout="5 parsecs")

    assert played(workflow).error.error_type == "EndlessLoopError"


def test_run_of_too_many_steps_ends_even_when_it_catches_everything() -> None:
    async def workflow() -> None:
        while True:
            with contextlib.suppress(Exception):
                await fail()

    recorded = played(workflow)

    assert recorded.error.error_type == "TooManyStepsError"
    assert "10000" in recorded.error.error_message
    assert len(recorded.calls) == STEPS_MAX


def test_run_may_have_as_many_steps_as_the_limit_says_at_once() -> None:
    async def workflow() -> int:
        return len(await asyncio.gather(*(echo(n) for n in range(STEPS_MAX))))

    recorded = played(workflow)

    assert recorded.result == STEPS_MAX


def test_step_more_than_the_limit_ends_the_run_before_any_is_called() -> None:
    async def workflow() -> int:
        return len(await asyncio.gather(*(echo(n) for n in range(STEPS_MAX + 1))))

    recorded = played(workflow)

    assert recorded.error.error_type == "TooManyStepsError"
    assert recorded.calls == []


def test_coroutine_that_is_never_awaited_is_no_step() -> None:
    async def workflow() -> int:
        _ = echo(1)
        return await echo(2)

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        recorded = played(workflow)
        gc.collect()

    assert recorded.calls == ["echo"]
    assert any("was never awaited" in str(warning.message) for warning in caught)


@pytest.mark.parametrize("delay", [math.nan, math.inf, 1e12])
def test_sleep_without_an_end_is_refused_at_its_call(delay: float) -> None:
    async def workflow() -> str:
        try:
            asyncio.get_running_loop().call_later(delay, print)
        except ValueError as error:
            return str(error)
        return "slept"

    assert "at most 366 days" in played(workflow).result


def test_child_that_closes_the_workflow_under_its_feet_ends_the_run() -> None:
    async def workflow() -> None:
        main = asyncio.current_task()
        assert main is not None

        async def close() -> None:
            code: Any = main.get_coro()
            code.close()

        task = asyncio.create_task(close())
        await step.wait_for_signal("never", str)
        await task

    recorded = played(workflow, signals={"never": "now"})

    assert recorded.error.error_type == "RuntimeError"


def explode(value: Any) -> Any:
    raise SystemExit(f"validator saw {value}")


Explosive = Annotated[str, AfterValidator(explode)]
Unwritable = Annotated[str, PlainSerializer(explode)]


def test_validator_of_the_input_that_raises_anything_fails_the_run() -> None:
    async def workflow(question: Explosive) -> None: ...

    recorded = play(App("hostile").workflow(workflow), "hello")

    assert recorded.error.error_type == "InvalidInput"
    assert "validator saw hello" in recorded.error.error_message


def test_serialiser_of_the_result_that_raises_anything_fails_the_run() -> None:
    async def workflow() -> Unwritable:
        return "hello"

    assert played(workflow).error.error_type == "PayloadError"


def test_validator_of_a_recorded_result_that_raises_anything_parks_the_run() -> None:
    async def look() -> Explosive:
        return "hello"

    async def workflow() -> str:
        return await step.run("look", look)

    instance = Play(App("hostile").workflow(workflow)).instance()
    instance.activate(None, replaying=False)
    completion = instance.activate(
        StepSucceeded(START, "look", b'"hello"', "json"), replaying=False
    )
    instance.close()

    assert isinstance(completion.end, Parked)
    assert "validator saw hello" in completion.end.message


def test_event_that_a_step_sets_is_refused_to_the_step() -> None:
    async def workflow() -> str:
        done = asyncio.Event()
        waiting = asyncio.create_task(done.wait())
        await echo(1)
        try:
            await step.run("set", done.set)
        except StepFailed as failure:
            waiting.cancel()
            return failure.error_message
        return "set"

    assert "let the step return the value" in played(workflow).result
