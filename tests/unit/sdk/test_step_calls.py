"""What a step call is known by, what it is given, and which calls are refused."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest

from stepfold import App, Fatal, NotBuiltError, Retry, StepFailed, current_run, step
from stepfold.core.errors import ConfigurationError
from stepfold.sdk.calls import StepCall
from tests.unit.sdk.played import START, Play, assert_replays_from_everywhere, play


@step(name="look-up", retry=Retry(attempts=7), timeout="2m")
async def search(query: str, limit: int = 10) -> list[str]:
    return [query] * limit


def double(number: int) -> int:
    return 2 * number


async def triple(number: int) -> int:
    return 3 * number


# As authors without a type checker write them; this repository has two.
without_annotations: Any = eval("lambda value: value")


@dataclass
class Tool:
    """Without a hash, as every dataclass that is not frozen."""

    number: int

    async def times(self, number: int) -> int:
        return self.number * number

    async def __call__(self, number: int) -> int:
        return self.number + number


def played(function: Callable[[], Coroutine[Any, Any, Any]], **options: Any) -> Play:
    return play(App("calls").workflow(function), **options)


def test_calls_are_known_by_name_and_number_and_by_their_keys() -> None:
    async def workflow() -> None:
        await search("a")
        await search.options(key="b")("b")
        await step.run("look-up", search, "c", 2)
        await step.run("double", double, 1)
        await step.run("double", double, 1, key="x")
        await step.sleep("double", 1)

    assert played(workflow).calls == [
        "look-up", "look-up[b]", "look-up#2", "double", "double[x]", "double#2",
    ]  # fmt: skip


def test_declared_policies_reach_the_engine_and_a_call_changes_them() -> None:
    async def workflow() -> None:
        await search("a")
        await search.options(retry=Retry(attempts=1), timeout=5)("b")
        await step.run("double", double, 1)

    app = App("policies", retry=Retry(attempts=3))
    calls = [c for done in play(app.workflow(workflow)).completions for c in done.calls]

    assert [(c.retry.attempts, c.timeout_ms) for c in calls if isinstance(c, StepCall)] == [
        (7, 120_000), (1, 5_000), (3, None),
    ]  # fmt: skip


def test_policy_of_the_workflow_goes_before_that_of_the_app() -> None:
    async def workflow() -> None:
        await step.run("double", double, 1)

    app = App("policies", retry=Retry(attempts=3))
    recorded = play(app.workflow(retry=Retry(attempts=4))(workflow))
    call = recorded.completions[0].calls[0]

    assert isinstance(call, StepCall)
    assert call.retry.attempts == 4


WHATEVER: list[tuple[Any, Any]] = [
    (double, 4),
    (triple, 6),
    (partial(pow, 5), 25),
    (partial(Tool(3).times), 6),
    (Tool(3).times, 6),
    (Tool(3), 5),
    (without_annotations, 2),
    (partial(step.run, "inner", triple), 6),
    (abs, 2),
    (int.bit_length, 2),
]


@pytest.mark.parametrize(
    ("function", "expected"),
    WHATEVER,
    ids=[getattr(function, "__name__", type(function).__name__) for function, _ in WHATEVER],
)
def test_whatever_can_be_called_can_be_a_step(function: Any, expected: Any) -> None:
    async def workflow() -> Any:
        return await step.run("some", function, 2)

    assert played(workflow).result == expected


def test_loop_may_call_another_function_under_one_inline_name() -> None:
    async def workflow() -> list[int]:
        tools: list[Any] = [double, Tool(3).times, partial(triple), without_annotations]
        return [await step.run("call-tool", tool, 2) for tool in tools]

    assert played(workflow).result == [4, 6, 6, 2]


def test_declared_name_of_two_functions_fails_the_run_with_both_places() -> None:
    @step(name="look-up")
    async def another(query: str) -> str:
        return query

    async def workflow() -> None:
        await search("a")
        await another("a")

    error = played(workflow).error

    assert error.error_type == "ConfigurationError"
    assert "two functions are called as step 'look-up' in one run: search (" in error.error_message
    assert error.error_message.count("test_step_calls.py:") == 2


@pytest.mark.parametrize("is_inline_first", [True, False])
def test_declared_name_is_not_for_another_inline_function(is_inline_first: bool) -> None:
    async def workflow() -> None:
        if is_inline_first:
            await step.run("look-up", double, 1)
        await search("a")
        await step.run("look-up", double, 1)

    assert "two functions are called as step 'look-up'" in played(workflow).error.error_message


def test_steps_that_one_piece_of_code_declares_may_share_their_name() -> None:
    def tool(number: int) -> Callable[[], Awaitable[int]]:
        @step
        async def call() -> int:
            return number

        return call

    async def workflow() -> list[int]:
        return [await tool(number)() for number in range(3)]

    assert played(workflow).calls == ["call", "call#2", "call#3"]


def test_key_used_twice_is_refused_at_the_second_call() -> None:
    async def workflow() -> None:
        await search.options(key="a")("a")
        await search.options(key="a")("a")

    assert "called twice with key 'a'" in played(workflow).error.error_message


wrong: Any = step
CALLED_WRONGLY: dict[str, Callable[[], Coroutine[Any, Any, object]]] = {
    "coroutine": lambda: wrong.run("plan", triple(2)),
    "no function": lambda: wrong.run("plan"),
    "value": lambda: wrong.run("plan", 5),
    "keyword": lambda: wrong.run("plan", double, number=5),
    "key": lambda: wrong.run("plan", double, 2, key=7),
    "timeout": lambda: step.run("plan", double, 2, timeout="5 parsecs"),
    "retry": lambda: wrong.run("plan", double, 2, retry=3),
    "name": lambda: step.run("a#2", double, 2),
    "sleep": lambda: step.sleep("nap", "5 parsecs"),
    "too long": lambda: step.sleep("nap", "400d"),
    "no zone": lambda: step.sleep_until("nap", datetime(2027, 1, 1)),  # noqa: DTZ001
    "wait": lambda: step.wait_for_signal("go", bool, timeout="never"),
    "type": lambda: step.wait_for_signal("go", asyncio.Event),
}
WRONG_CALLS = {
    "coroutine": "give it the function and its arguments instead: step.run(name, function, arg",
    "no function": "missing 1 required positional argument: 'function'",
    "value": "step.run('plan') needs a function, got a int",
    "keyword": "has no option 'number'; it passes positional arguments only",
    "key": "the key of a step must be text of 1 to 200 characters, got 7",
    "timeout": "timeout= of step.run('plan'): not a duration: '5 parsecs'",
    "retry": "retry= of step.run('plan') takes Retry(...), got 3",
    "name": "text without # [ ]",
    "sleep": "sleep 'nap': not a duration: '5 parsecs'",
    "too long": "between 0 and 366 days, got '400d'",
    "no zone": "needs a datetime with a time zone",
    "wait": "timeout= of signal 'go': not a duration: 'never'",
    "type": "signal 'go' is of a type that cannot be stored",
}


@pytest.mark.parametrize(("how", "reason"), WRONG_CALLS.items(), ids=WRONG_CALLS)
def test_wrong_call_fails_the_run_and_says_what_to_write(how: str, reason: str) -> None:
    async def workflow() -> object:
        return await CALLED_WRONGLY[how]()

    recorded = played(workflow)

    assert reason in recorded.error.error_message
    assert recorded.calls == []


def test_call_that_is_not_built_is_refused_by_name() -> None:
    with pytest.raises(NotBuiltError) as caught:
        step.wait_for_event("later", "something")

    assert caught.value.option == "step.wait_for_event"


def test_failed_step_can_be_caught_with_its_error() -> None:
    @step
    async def send() -> None:
        raise Fatal("no such account")

    async def workflow() -> list[object]:
        try:
            await send()
        except StepFailed as failure:
            return [failure.step, failure.error_type, failure.error_message, str(failure)]
        return []

    recorded = played(workflow)

    assert recorded.result == [
        "send", "Fatal", "no such account",
        "step 'send' failed after 1 attempt: Fatal: no such account",
    ]  # fmt: skip
    assert_replays_from_everywhere(recorded)


def test_time_chance_and_ids_are_the_same_on_every_replay() -> None:
    async def workflow() -> list[object]:
        before, ids = step.now(), {step.uuid() for _ in range(50)}
        await step.sleep("nap", "90s")
        passed = step.now() - before
        return [before, passed.total_seconds(), len(ids), step.uuid(), step.random().random()]

    recorded = played(workflow)
    started, passed, ids, one, number = recorded.result

    assert datetime.fromisoformat(started) == datetime.fromtimestamp(START / 1_000, UTC)
    assert (passed, ids, uuid.UUID(one).version) == (90, 50, 4)
    assert 0 <= number < 1
    assert_replays_from_everywhere(recorded)


def test_sleeping_until_a_moment_that_is_over_is_no_sleep() -> None:
    async def workflow() -> float:
        before = step.now()
        await step.sleep_until("past", before - timedelta(days=800))
        await step.sleep_until("soon", before + timedelta(seconds=5))
        return (step.now() - before).total_seconds()

    assert played(workflow).result == 5


def test_workflow_and_its_steps_know_their_run() -> None:
    async def who() -> list[object]:
        run = current_run()
        return [run.id, run.workflow, run.attempt, run.idempotency_key]

    async def workflow() -> list[object]:
        return await who()

    recorded = played(workflow)
    instance = recorded.instance()
    context = instance.step_context("search#2", 3)
    with pytest.raises(StopIteration) as returned:
        context.run(who().send, None)
    instance.close()

    assert recorded.result == ["run-1", "workflow", 0, "run-1"]
    assert returned.value.value == ["run-1", "workflow", 3, "run-1:search#2"]


def test_run_is_known_nowhere_else() -> None:
    with pytest.raises(RuntimeError, match="outside of a run"):
        current_run()


def test_steps_are_their_functions_outside_of_runs() -> None:
    async def outside() -> list[object]:
        await step.sleep("nap", 0)
        return [await search("a", limit=2), await step.run("x", double, 2), type(step.now())]

    assert asyncio.run(outside()) == [["a", "a"], 4, datetime]


def test_signal_is_waited_for_in_workflows_only() -> None:
    with pytest.raises(RuntimeError, match="works in workflow code only"):
        asyncio.run(step.wait_for_signal("go", bool))


def test_wrong_name_is_refused_outside_of_runs_as_well() -> None:
    with pytest.raises(ConfigurationError, match="text without"):
        asyncio.run(step.run("a#2", double, 2))
