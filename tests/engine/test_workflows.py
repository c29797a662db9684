"""What workflow code raises, returns and asks too much of, and what changed code leaves behind."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from stepfold import App, Retry, step
from stepfold.core import commands as c
from stepfold.core import events as e
from stepfold.engine.execution import PAYLOAD_BYTES_MAX
from stepfold.sdk.names import STEPS_MAX
from tests.engine.stage import APP, Stage, play
from tests.engine.test_steps import RAISED

TEXT_MAX = 17_000
WAKES_MAX = 20
"""Of a run that waits, in 0.3 s; one that spins has thousands."""


@pytest.mark.parametrize("is_alone", [True, False], ids=["itself", "a task of it"])
@pytest.mark.parametrize("name", sorted(RAISED.keys() - {"no delay"}))
def test_whatever_workflow_code_raises_fails_its_run(name: str, is_alone: bool) -> None:
    make, error_type, message = RAISED[name]

    async def fails() -> None:
        raise make()

    def declare(app: App) -> None:
        @app.workflow
        async def raises() -> None:  # pyright: ignore[reportUnusedFunction]
            await (fails() if is_alone else asyncio.gather(fails(), asyncio.sleep(60)))

    async def scene(there: Stage) -> None:
        run_id = there.start("raises")
        error = await there.failure_of(run_id)

        assert error.error_type.startswith(error_type)
        assert error.error_message.startswith(message)
        assert len(error.error_message) + len(error.error_stack) < 2 * TEXT_MAX
        assert there.kinds(run_id) == ["RunFailed"]

    play(declare, scene)


async def gives_text() -> int:
    return "text"  # type: ignore[return-value] # pyright: ignore[reportReturnType] - the point


async def gives_too_much() -> str:
    return "x" * PAYLOAD_BYTES_MAX


async def gives_object() -> object:
    return object()


async def never_waits() -> None:
    for _ in itertools.count():
        await asyncio.sleep(0)


async def asks_for_too_much_at_once() -> None:
    await asyncio.gather(*(step.sleep("nap", "1h") for _ in range(STEPS_MAX + 1)))


ENDS: dict[str, tuple[Callable[[], Coroutine[Any, Any, object]], str, str]] = {
    "a result of another type": (gives_text, "PayloadError", "not what its annotation says"),
    "a result that is too large": (gives_too_much, "PayloadTooLargeError", "has 900002 bytes"),
    "a result that is an object": (gives_object, "PayloadError", "cannot be stored"),
    "a loop that never waits": (never_waits, "EndlessLoopError", "turns without waiting"),
    "one call too many": (asks_for_too_much_at_once, "TooManyStepsError", "too_many_steps"),
}


@pytest.mark.parametrize("name", ENDS)
def test_workflow_that_ends_wrongly_fails_its_run_with_the_reason(name: str) -> None:
    function, error_type, message = ENDS[name]

    async def scene(there: Stage) -> None:
        error = await there.failure_of(there.start("wrong"))

        assert error.error_type == error_type
        assert message in error.error_message

    def declare(app: App) -> None:
        app.workflow("wrong")(function)

    play(declare, scene)


def with_first_step_of(kind: type, app: App) -> App:
    """The same workflow, by whichever code; `kind` is what it declares its first step to give."""

    async def first() -> int:
        return 7

    async def second() -> int:
        await asyncio.sleep(0.3)  # longer than the first one, and open when its worker goes
        return 5

    first.__annotations__["return"] = kind

    @app.workflow
    async def both() -> int:  # pyright: ignore[reportUnusedFunction]
        one, two = await asyncio.gather(step.run("first", first), step.run("second", second))
        return int(one) + two

    return app


def test_run_parked_for_changed_code_still_has_its_open_steps_when_it_is_resumed() -> None:
    async def scene(there: Stage) -> None:
        run_id = there.start("both")
        await there.first(e.StepCompleted, run_id)
        there.cluster.fence(APP, "worker")
        there.join("changed", with_first_step_of(list, there.fresh_app()))
        parked = await there.first(e.RunParked, run_id)
        assert (parked.reason, parked.step) == ("definition_changed", "first")
        there.cluster.fence(APP, "changed")
        there.join("mended", there.app)
        await there.until(lambda: there.members[-1].state is not None)
        there.command(c.Resume(run_id=run_id, by="test", reason=""))

        completed = await there.first(e.RunCompleted, run_id)
        assert completed.payload == b"12"

    def declare(app: App) -> None:
        with_first_step_of(int, app)

    play(declare, scene)


def test_step_that_changed_code_does_not_call_any_more_keeps_nobody_busy() -> None:
    def calling(app: App) -> None:
        async def fails() -> None:
            raise ValueError

        @app.workflow
        async def asks() -> int | None:  # pyright: ignore[reportUnusedFunction]
            patient = Retry(attempts=5, min_delay="100ms")
            task = asyncio.ensure_future(step.run("old", fails, retry=patient))
            try:
                return await step.wait_for_signal("answer", int)
            finally:
                task.cancel()

    def only_asking(app: App) -> App:
        @app.workflow
        async def asks() -> int | None:  # pyright: ignore[reportUnusedFunction]
            return await step.wait_for_signal("answer", int)

        return app

    async def scene(there: Stage) -> None:
        run_id = there.start("asks")
        await there.first(e.AttemptFailed, run_id)
        there.cluster.fence(APP, "worker")
        changed = there.join("changed", only_asking(there.fresh_app()))
        wakes = there.count_wakes(changed)
        await there.until(lambda: len(there.of(e.Claimed)) == 2)
        await asyncio.sleep(0.3)
        assert len(wakes) < WAKES_MAX

        there.signal(run_id, "answer", 42)
        assert await there.result_of(run_id) == 42

    play(calling, scene)
