"""Runs that are cancelled from outside, and code that is dropped where it stands."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections.abc import AsyncGenerator, Callable, Coroutine
from typing import Any

import pytest
from pydantic import BaseModel

from stepfold import App, current_run, step
from stepfold.core.outcomes import CancelAsked
from stepfold.sdk.activation import CLOSING_ROUNDS_MAX
from stepfold.sdk.calls import Cancelled
from stepfold.sdk.loop import CALLBACKS_PER_ACTIVATION_MAX
from tests.unit.sdk.played import START, Play, assert_replays_from_everywhere, play, shape


@step
async def echo(value: int) -> int:
    return value


def played(function: Callable[[], Coroutine[Any, Any, Any]], **options: Any) -> Play:
    return play(App("cancelled").workflow(function), **options)


class Swallowing(BaseModel):
    caught: int


async def swallows_its_cancellation() -> Swallowing:
    caught = 0
    try:
        await step.wait_for_signal("never", str)
    except asyncio.CancelledError:
        caught += 1
    await echo(caught)
    return Swallowing(caught=caught)


def test_run_that_swallows_its_cancellation_goes_on() -> None:
    recorded = played(swallows_its_cancellation, cancel_after=0)

    assert recorded.result == {"caught": 1}
    assert recorded.completions[1].abandoned == ("never",)
    assert_replays_from_everywhere(recorded)


@pytest.mark.parametrize("where", ["except", "finally"])
def test_run_that_is_cancelled_compensates_with_further_steps(where: str) -> None:
    async def workflow() -> None:
        try:
            await step.wait_for_signal("never", str)
        except asyncio.CancelledError:
            if where == "except":
                await step.run("undo", echo, 1)
            raise
        finally:
            if where == "finally":
                await step.sleep("settle", 60)
                await step.run("undo", echo, 1)

    recorded = played(workflow, cancel_after=0)

    assert recorded.called == ["undo"]
    assert recorded.cancelled == Cancelled(reason="asked to")
    assert_replays_from_everywhere(recorded)


def test_cancelling_before_anything_is_awaited_ends_the_run_at_its_first_wait() -> None:
    async def workflow() -> None:
        await echo(1)

    instance = Play(App("cancelled").workflow(workflow)).instance()
    instance.activate(None, replaying=False)
    completion = instance.activate(CancelAsked(START, "wrong"), replaying=False)
    instance.close()

    assert shape(completion) == ([], ("echo",), {}, Cancelled(reason="wrong"))


def test_code_that_swallows_every_cancellation_can_be_dropped() -> None:
    rounds: list[int] = []

    async def workflow() -> None:
        while True:
            try:
                await step.wait_for_signal("never", str)
            except asyncio.CancelledError:
                rounds.append(1)

    instance = Play(App("cancelled").workflow(workflow)).instance()
    instance.activate(None, replaying=False)
    instance.close()
    gc.collect()

    assert len(rounds) == CLOSING_ROUNDS_MAX


def test_code_that_spins_and_swallows_its_cancellation_is_dropped_after_one_more_round() -> None:
    turns: list[int] = []

    async def workflow() -> None:
        while True:
            with contextlib.suppress(asyncio.CancelledError):
                turns.append(1)
                await asyncio.sleep(0)

    recorded = played(workflow)

    assert recorded.error.error_type == "EndlessLoopError"
    assert len(turns) <= 2 * CALLBACKS_PER_ACTIVATION_MAX + 2


def test_code_that_raises_anything_while_it_is_dropped_raises_at_nobody() -> None:
    steps: list[str] = []

    async def workflow() -> None:
        try:
            await step.wait_for_signal("never", str)
        finally:
            steps.append("finally")
            raise SystemExit("at last")

    instance = Play(App("cancelled").workflow(workflow)).instance()
    instance.activate(None, replaying=False)
    instance.close()

    assert steps == ["finally"]


def test_dropped_code_gets_no_step_run() -> None:
    called: list[int] = []

    async def workflow() -> None:
        try:
            await step.wait_for_signal("never", str)
        finally:
            await step.run("undo", called.append, 1)

    instance = Play(App("cancelled").workflow(workflow)).instance()
    instance.activate(None, replaying=False)
    instance.close()
    gc.collect()

    assert called == []


def test_generator_that_the_collector_finds_is_closed_with_its_run_and_not_at_its_whim() -> None:
    closed: list[str] = []

    async def pages() -> AsyncGenerator[int, None]:
        try:
            yield 1
        finally:
            closed.append(current_run().workflow)

    async def workflow() -> None:
        cycle: list[Any] = [pages()]
        cycle.append(cycle)
        await anext(cycle[0])
        del cycle
        await step.wait_for_signal("never", str)

    instance = Play(App("cancelled").workflow(workflow)).instance()
    instance.activate(None, replaying=False)
    gc.collect()
    before = list(closed)
    instance.close()

    assert (before, closed) == ([], ["workflow"])
