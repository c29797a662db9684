"""What steps raise, return and take, and what the history then says of it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from stepfold import App, Fatal, Retry, RetryAfter, StepFailed, current_run, step
from stepfold.core import events as e
from stepfold.engine.execution import PAYLOAD_BYTES_MAX
from stepfold.engine.executor import THREADS_MAX, Executor
from stepfold.engine.places import ATTEMPTS_RUNNING_MAX
from tests.engine.stage import Stage, play

TEXT_MAX = 17_000
ONCE = Retry(attempts=1)


class OddError(Exception):
    """Whoever shows it gets another error."""

    def __str__(self) -> str:
        raise RuntimeError("this error cannot be shown")


class OddRetryAfterError(RetryAfter):
    def __init__(self) -> None:
        """Does not call the one of its parent, so that it has no delay."""


class OtherError(BaseException):
    """Not even an Exception."""


RAISED: dict[str, tuple[Callable[[], BaseException], str, str]] = {
    "CancelledError": (asyncio.CancelledError, "CancelledError", ""),
    "SystemExit": (lambda: SystemExit(3), "SystemExit", "3"),
    "KeyboardInterrupt": (KeyboardInterrupt, "KeyboardInterrupt", ""),
    "GeneratorExit": (GeneratorExit, "GeneratorExit", ""),
    "StopIteration": (StopIteration, "RuntimeError", "coroutine raised StopIteration"),
    "a BaseException": (lambda: OtherError("no"), "OtherError", "no"),
    "TimeoutError": (TimeoutError, "TimeoutError", ""),
    "no text": (OddError, "OddError", "(OddError whose text cannot be had)"),
    "no delay": (OddRetryAfterError, "OddRetryAfterError", ""),
    "a lone surrogate": (lambda: ValueError("\ud800"), "ValueError", "\\ud800"),
    "5 MB of text": (lambda: ValueError("x" * 5_000_000), "ValueError", "x" * 16_000),
    "a group": (lambda: ExceptionGroup("both", [OddError(), OddError()]), "ExceptionGroup", "both"),
    "an endless name": (lambda: type("N" * 100_000, (Exception,), {})(), "N" * 200, ""),
}


@pytest.mark.parametrize("is_async", [True, False], ids=["async", "in a thread"])
@pytest.mark.parametrize("name", RAISED)
def test_whatever_a_step_raises_is_recorded_and_retried(name: str, is_async: bool) -> None:
    make, error_type, message = RAISED[name]

    async def raises() -> None:
        raise make()

    def raises_in_a_thread() -> None:
        raise make()

    async def scene(there: Stage) -> None:
        run_id = there.start("fails")
        error = await there.failure_of(run_id)

        assert error.error_type == "StepFailed"
        tried = there.of(e.AttemptFailed, run_id)
        assert [attempt.retryable for attempt in tried] == [True, True]
        for attempt in tried:
            assert attempt.error_type.startswith(error_type)
            assert attempt.error_message.startswith(message)
            assert len(attempt.error_message) + len(attempt.error_stack) < 2 * TEXT_MAX

    play(failing(raises if is_async else raises_in_a_thread), scene)


def failing(function: Callable[[], Any]) -> Callable[[App], None]:
    def declare(app: App) -> None:
        @app.workflow
        async def fails() -> object:  # pyright: ignore[reportUnusedFunction]
            return await step.run("bad", function)

    return declare


async def gives_object() -> object:
    return object()


async def gives_text_for_a_number() -> int:
    return "text"  # type: ignore[return-value] # pyright: ignore[reportReturnType] - the point


async def gives_too_much() -> str:
    return "x" * PAYLOAD_BYTES_MAX


async def gives_half_a_pair() -> str:
    return "\ud800"


async def is_fatal() -> None:
    raise Fatal("no such account")


async def takes(value: object) -> int:
    return 1


def circle() -> list[object]:
    around: list[object] = []
    around.append(around)
    return around


REFUSED: dict[str, tuple[Callable[[], Awaitable[object]], str, str]] = {
    "result: an object": (gives_object, "PayloadError", "cannot be stored"),
    "result: of another type": (gives_text_for_a_number, "PayloadError", "not what its annotation"),
    "result: too large": (gives_too_much, "PayloadTooLargeError", "has 900002 bytes, the limit is"),
    "result: half a pair": (gives_half_a_pair, "PayloadError", "cannot be stored"),
    "raised: Fatal": (is_fatal, "Fatal", "no such account"),
}
REFUSED_INPUTS: dict[str, tuple[object, str, str]] = {
    "an object": (object(), "PayloadError", "the input of step 'bad' cannot be stored"),
    "too large": ("x" * PAYLOAD_BYTES_MAX, "PayloadTooLargeError", "the input of step 'bad' has"),
    "half a pair": ("\ud800", "PayloadError", "the input of step 'bad' cannot be stored"),
    "a circle": (circle(), "PayloadError", "the input of step 'bad' cannot be stored"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_result_that_cannot_be_stored_fails_the_step_without_a_retry(name: str) -> None:
    function, error_type, message = REFUSED[name]

    async def scene(there: Stage) -> None:
        run_id = there.start("fails")
        error = await there.failure_of(run_id)

        assert message in error.error_message
        (failed,) = there.of(e.AttemptFailed, run_id)
        assert (failed.error_type, failed.retryable) == (error_type, False)

    play(failing(function), scene)


@pytest.mark.parametrize("name", REFUSED_INPUTS)
def test_input_that_cannot_be_stored_fails_the_step_and_never_calls_it(name: str) -> None:
    value, error_type, message = REFUSED_INPUTS[name]
    called: list[object] = []

    async def notes(given: object) -> None:
        called.append(given)

    def declare(app: App) -> None:
        @app.workflow
        async def compensates() -> str:  # pyright: ignore[reportUnusedFunction]
            try:
                await step.run("bad", notes, value)
            except StepFailed as failure:
                return failure.error_message
            return "taken"

    async def scene(there: Stage) -> None:
        run_id = there.start("compensates")

        assert message in await there.result_of(run_id)
        (failed,) = there.of(e.AttemptFailed, run_id)
        assert (failed.error_type, failed.retryable) == (error_type, False)
        assert called == []

    play(declare, scene)


def test_step_that_cancels_its_own_task_has_failed() -> None:
    async def cancels_itself() -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(10)

    async def scene(there: Stage) -> None:
        run_id = there.start("fails")
        await there.failure_of(run_id)

        assert [f.error_type for f in there.of(e.AttemptFailed, run_id)] == ["CancelledError"] * 2

    play(failing(cancels_itself), scene)


def test_run_is_cancelled_while_a_step_never_ends_whatever_it_does_about_it() -> None:
    stubborn_ends = asyncio.Event()

    async def never() -> None:
        await asyncio.Event().wait()

    async def stubborn() -> None:
        while not stubborn_ends.is_set():
            try:
                await stubborn_ends.wait()
            except asyncio.CancelledError:
                continue

    def declare(app: App) -> None:
        @app.workflow
        async def waits(kind: str) -> None:  # pyright: ignore[reportUnusedFunction]
            await step.run("endless", never if kind == "never" else stubborn)

    async def scene(there: Stage) -> None:
        runs = [there.start("waits", kind) for kind in ("never", "stubborn")]
        for run_id in runs:
            await there.first(e.AttemptStarted, run_id)
            there.cancel(run_id)
            assert isinstance(await there.end_of(run_id), e.RunCancelled)
            assert len(there.of(e.AttemptCancelled, run_id)) == 1
        stubborn_ends.set()
        executor = there.members[0].worker.around.executor
        await there.until(lambda: executor.running == 0)

    play(declare, scene)


def test_steps_that_were_given_up_in_their_threads_keep_no_other_step_waiting(
    caplog: pytest.LogCaptureFixture,
) -> None:
    stuck, released = THREADS_MAX + 3, threading.Event()

    def never() -> None:
        released.wait()

    def double(number: int) -> int:
        return 2 * number

    def declare(app: App) -> None:
        @app.workflow
        async def hangs() -> None:  # pyright: ignore[reportUnusedFunction]
            await step.run("never", never, timeout="20ms", retry=ONCE)

        @app.workflow
        async def doubles(number: int) -> int:  # pyright: ignore[reportUnusedFunction]
            return await step.run("double", double, number, timeout="5s", retry=ONCE)

    async def scene(there: Stage) -> None:
        hanging = [there.start("hangs") for _ in range(stuck)]
        errors = [await there.failure_of(run_id) for run_id in hanging]

        assert all("StepTimeout" in error.error_message for error in errors)
        assert await there.result_of(there.start("doubles", 4)) == 8
        told = [r for r in caplog.records if r.getMessage().startswith("step goes on in its thr")]
        assert len(told) == stuck
        assert {record.__dict__["step"] for record in told} == {
            f"never of run {run_id}" for run_id in hanging
        }

    try:
        play(declare, scene)
    finally:
        released.set()


def test_step_that_waits_for_a_thread_does_not_use_up_its_time() -> None:
    def naps(number: int) -> int:
        threading.Event().wait(0.05)
        return number

    def declare(app: App) -> None:
        @app.workflow
        async def crowd() -> int:  # pyright: ignore[reportUnusedFunction]
            calls = [
                step.run("nap", naps, number, timeout="400ms", retry=ONCE)
                for number in range(10 * THREADS_MAX)
            ]
            return len(await asyncio.gather(*calls))

    async def scene(there: Stage) -> None:
        assert await there.result_of(there.start("crowd")) == 10 * THREADS_MAX

    play(declare, scene)


def test_more_parallel_steps_than_may_run_at_once_all_complete() -> None:
    """Each tenth of them at its second attempt."""
    count = ATTEMPTS_RUNNING_MAX + 300
    seen: list[int] = []
    executors: list[Executor] = []

    async def square(number: int) -> int:
        seen.append(executors[0].running)
        if number % 10 == 0 and current_run().attempt == 1:
            raise ValueError(number)
        return number * number

    def declare(app: App) -> None:
        @app.workflow
        async def many() -> int:  # pyright: ignore[reportUnusedFunction]
            squares = [step.run("square", square, number) for number in range(count)]
            return sum(await asyncio.gather(*squares))

    async def scene(there: Stage) -> None:
        executors.append(there.members[0].worker.around.executor)
        run_id = there.start("many")

        assert await there.result_of(run_id) == sum(number * number for number in range(count))
        assert max(seen) <= ATTEMPTS_RUNNING_MAX
        assert len(there.of(e.AttemptFailed, run_id)) == count // 10

    play(declare, scene)


def test_attempt_without_a_delay_follows_at_once() -> None:
    async def fails_often() -> int:
        if current_run().attempt < 20:
            raise ValueError
        return current_run().attempt

    def declare(app: App) -> None:
        @app.workflow
        async def retries() -> int:  # pyright: ignore[reportUnusedFunction]
            hasty = Retry(attempts=20, min_delay=0)
            return await step.run("often", fails_often, retry=hasty)

    async def scene(there: Stage) -> None:
        assert await there.result_of(there.start("retries")) == 20

    play(declare, scene)
