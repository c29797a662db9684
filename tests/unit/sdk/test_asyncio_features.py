"""Plain asyncio in workflow code: it works, and takes the same way on every replay.

Each workflow below is played in many orders of what could happen, and each recording is
replayed by fresh code from every place at which a process could have died.
"""

from __future__ import annotations

import asyncio
import contextvars
import random
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import pytest

from stepfold import App, StepFailed, step
from stepfold.sdk.workflow import WorkflowDefinition
from tests.unit.sdk.played import Play, assert_replays_from_everywhere, play

app = App("features")
SEEDS = range(12)
WIDTH = 9
"""Steps at once: enough that a set of them is hardly ever in order by chance."""


@step
async def echo(value: int) -> int:
    return value


@step
async def fail(value: int) -> int:
    raise LookupError(f"no {value}")


@app.workflow
async def gathered() -> list[int]:
    return await asyncio.gather(*(echo(n) for n in range(WIDTH)))


@app.workflow
async def gathered_with_exceptions() -> list[str]:
    found = await asyncio.gather(echo(1), fail(2), echo(3), return_exceptions=True)
    return [type(each).__name__ if isinstance(each, Exception) else str(each) for each in found]


@app.workflow
async def task_group() -> list[int]:
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(echo(n)) for n in range(WIDTH)]
    return [task.result() for task in tasks]


@app.workflow
async def task_group_with_a_failing_child() -> list[str]:
    """The others are cancelled, and each compensates with a step of its own."""
    undone: list[str] = []

    async def one(number: int) -> None:
        try:
            await asyncio.sleep(60 + number)
        except asyncio.CancelledError:
            undone.append(f"{number}:{await echo(number)}")
            raise

    try:
        async with asyncio.TaskGroup() as group:
            for number in range(WIDTH):
                group.create_task(one(number))
            group.create_task(fail(0))
    except* StepFailed as failed:
        undone.append(str(len(failed.exceptions)))
    return undone


@app.workflow
async def first_completed() -> list[int]:
    pending = {asyncio.create_task(echo(n)) for n in range(WIDTH)}
    order: list[int] = []
    while pending:
        done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
        order += [await echo(task.result()) for task in done]
    return sorted(order)


@app.workflow
async def first_exception() -> list[str]:
    tasks = [asyncio.create_task(fail(0)), *(asyncio.create_task(echo(n)) for n in range(WIDTH))]
    _, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
    for task in pending:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return [type(tasks[0].exception()).__name__]


@app.workflow
async def all_completed_in_time() -> int:
    done, pending = await asyncio.wait([asyncio.create_task(echo(1))], timeout=60)
    return len(done) - len(pending)


@app.workflow
async def all_completed_too_late() -> list[int]:
    """The iteration over the sets of `wait` makes calls, so their order must be the same."""
    tasks = [asyncio.create_task(asyncio.sleep(60 * n, n)) for n in range(2 * WIDTH)]
    done, pending = await asyncio.wait(tasks, timeout=60 * WIDTH - 1)
    seen = [await echo(task.result()) for task in done]
    for task in pending:
        task.cancel()
    return sorted(seen)


@app.workflow
async def as_completed() -> list[int]:
    """Nobody but asyncio makes the tasks, and it puts the coroutines into a set before."""

    async def twice(number: int) -> int:
        return 2 * await echo(number)

    found = [await each for each in asyncio.as_completed([twice(n) for n in range(WIDTH)])]
    return sorted(found)


@app.workflow
async def as_completed_with_timeout() -> list[int]:
    found: list[int] = []
    try:
        for each in asyncio.as_completed([asyncio.sleep(n, n) for n in (1, 2, 90)], timeout=60):
            found.append(await each)
    except TimeoutError:
        found.append(-1)
    return found


@app.workflow
async def timed_out() -> str:
    try:
        async with asyncio.timeout(60):
            await step.wait_for_signal("never", str)
    except TimeoutError:
        return "late"
    return "in time"


@app.workflow
async def in_time() -> int:
    async with asyncio.timeout(60):
        await asyncio.sleep(59)
    return await asyncio.wait_for(asyncio.sleep(30, 7), 31)


@app.workflow
async def waited_for_too_long() -> str:
    try:
        await asyncio.wait_for(step.wait_for_signal("never", str), 60)
    except TimeoutError:
        return "late"
    return "in time"


@app.workflow
async def shielded() -> list[int]:
    kept = asyncio.create_task(asyncio.sleep(60, 5))
    try:
        async with asyncio.timeout(1):
            await asyncio.shield(kept)
    except TimeoutError:
        return [await kept]
    return []


@app.workflow
async def cancelled_by_itself() -> str:
    async def clean_up_after() -> int:
        try:
            await step.wait_for_signal("never", str)
        finally:
            await echo(1)
        return 0

    task = asyncio.create_task(clean_up_after())
    await echo(2)
    task.cancel("not needed")
    try:
        await task
    except asyncio.CancelledError as error:
        return f"cancelled, {error}"
    return "not cancelled"


@app.workflow
async def queued() -> list[int]:
    queue: asyncio.Queue[int] = asyncio.Queue(2)

    async def produce() -> None:
        for number in range(WIDTH):
            await queue.put(await echo(number))

    producer = asyncio.create_task(produce())
    found = [await queue.get() for _ in range(WIDTH)]
    await producer
    return found


@app.workflow
async def with_locks() -> list[int]:
    lock, semaphore, ready = asyncio.Lock(), asyncio.Semaphore(2), asyncio.Event()
    condition, found = asyncio.Condition(), list[int]()

    async def work(number: int) -> None:
        await ready.wait()
        async with semaphore:
            value = await echo(number)
        async with lock:
            found.append(await echo(value))
        async with condition:
            condition.notify_all()

    async with asyncio.TaskGroup() as group:
        for number in range(WIDTH):
            group.create_task(work(number))
        ready.set()
        async with condition:
            await condition.wait_for(lambda: len(found) == WIDTH)
    return sorted(found)


@app.workflow
async def left_running() -> str:
    tasks = [asyncio.create_task(step.wait_for_signal("never", str)) for _ in range(3)]
    await echo(1)
    return f"{sum(not task.done() for task in tasks)} left"


VARIABLE: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")


@app.workflow
async def with_context_variables() -> list[str]:
    async def child(text: str) -> str:
        before = VARIABLE.get()
        VARIABLE.set(text)
        await echo(1)
        return f"{before}>{VARIABLE.get()}"

    found = [VARIABLE.get()]
    VARIABLE.set("main")
    found += await asyncio.gather(child("one"), child("two"))
    return [*found, VARIABLE.get()]


async def pages(closed: list[str]) -> AsyncGenerator[int, None]:
    try:
        for number in range(5):
            yield await echo(number)
    finally:
        closed.append(f"closed {await echo(9)}")


@app.workflow
async def with_generators() -> list[Any]:
    closed: list[str] = []
    comprehended = [page async for page in pages(closed) if page % 2]
    async with aclosing(pages(closed)) as some:
        async for page in some:
            if page == 1:
                break
    return [comprehended, closed]


@app.workflow
async def generator_left_open() -> list[str]:
    """What is left in the middle is closed by the loop at once, with its steps."""
    closed: list[str] = []
    async for _ in pages(closed):
        break
    await asyncio.sleep(60)
    return closed


CASES: list[tuple[WorkflowDefinition[Any, Any], Any]] = [
    (gathered, list(range(WIDTH))),
    (gathered_with_exceptions, ["1", "StepFailed", "3"]),
    (task_group, list(range(WIDTH))),
    (first_completed, list(range(WIDTH))),
    (first_exception, ["StepFailed"]),
    (all_completed_in_time, 1),
    (all_completed_too_late, list(range(WIDTH))),
    (as_completed, [2 * n for n in range(WIDTH)]),
    (as_completed_with_timeout, [1, 2, -1]),
    (timed_out, "late"),
    (in_time, 7),
    (waited_for_too_long, "late"),
    (shielded, [5]),
    (cancelled_by_itself, "cancelled, not needed"),
    (queued, list(range(WIDTH))),
    (with_locks, list(range(WIDTH))),
    (left_running, "3 left"),
    (with_context_variables, ["unset", "main>one", "main>two", "main"]),
    (with_generators, [[1, 3], ["closed 9", "closed 9"]]),
    (generator_left_open, ["closed 9"]),
]


def names(value: object) -> str:
    return value.name if isinstance(value, WorkflowDefinition) else ""


@pytest.mark.parametrize(("workflow", "expected"), CASES, ids=names)
def test_asyncio_works_in_workflow_code(
    workflow: WorkflowDefinition[Any, Any], expected: Any
) -> None:
    assert play(workflow).result == expected


@pytest.mark.parametrize("workflow", app.workflows.values(), ids=names)
def test_every_order_of_events_replays_alike_from_everywhere(
    workflow: WorkflowDefinition[Any, Any],
) -> None:
    for seed in SEEDS:
        recorded = play(workflow, order=random.Random(seed))

        assert recorded.end is not None
        assert_replays_from_everywhere(recorded)


@pytest.mark.parametrize("workflow", app.workflows.values(), ids=names)
def test_every_cancellation_from_outside_replays_alike(
    workflow: WorkflowDefinition[Any, Any],
) -> None:
    for cancel_after in range(3):
        recorded = Play(workflow, cancel_after=cancel_after, order=random.Random(1)).go()

        assert_replays_from_everywhere(recorded)


def test_failing_child_cancels_its_task_group_in_one_order() -> None:
    recorded = play(task_group_with_a_failing_child)

    # They are cancelled in the order of their creation; each then makes its own step.
    assert recorded.result == [*(f"{n}:{n}" for n in range(WIDTH)), "1"]
    assert recorded.calls == ["fail", "echo", *(f"echo#{n}" for n in range(2, WIDTH + 1))]
