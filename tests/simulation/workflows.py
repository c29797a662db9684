"""The simulated app: workflows that carry out a plan, and the steps that touch the world.

One app serves all seeds, because declaring one costs more than running it: what differs
from seed to seed is the plan, and it comes as the input.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from datetime import datetime, timedelta
from typing import Any, cast

from stepfold.core.errors import Fatal, RetryAfter, StepFailed
from stepfold.core.retry import Retry
from stepfold.sdk.app import App
from stepfold.sdk.context import current_run
from stepfold.sdk.event import Event
from stepfold.sdk.step import step
from stepfold.sdk.triggers import event
from tests.simulation.plans import Node, digest
from tests.simulation.process import SimProcess
from tests.simulation.stage import Ending, Execution
from tests.simulation.universe import SimLoop

APP = App("sim", retry=Retry(attempts=3, min_delay=0.05))
HURRY_MS = 4_000
RETRY_AFTER_MS = 300
TYPES: dict[str, type[Any]] = {"int": int, "text": str}


class PlannedError(Exception):
    """The plan says that the run fails here."""


@APP.workflow(on=[event("sim/go"), event("sim/both")])
async def script(order: dict[str, Any]) -> Any:
    return await _perform(order["plan"], "")


@APP.workflow(on=event("sim/both", if_="event.data.twin == true"))
async def twin(order: dict[str, Any]) -> Any:
    return await _perform(order["plan"], "twin")


@APP.workflow(timeout=timedelta(milliseconds=HURRY_MS))
async def hurried(order: dict[str, Any]) -> Any:
    return await _perform(order["plan"], "")


# What a plan does


async def _perform(node: Node, seen: str) -> Any:
    match node["do"]:
        case "seq" | "loop":
            return await _one_by_one(_turns(node), seen)
        case "step":
            return ["ok", await _call(node, seen)]
        case "gather" | "group" | "race":
            return await _at_once(node, seen)
        case "try":
            return await _try(node, seen)
        case "within":
            return await _within(node, seen)
        case "sleep" | "timer":
            return await _pause(node)
        case "signal":
            return await _signal(node)
        case "same":
            return await _same(node["name"])
        case "child" | "start" | "tell":
            return await _beyond(node)
        case _:
            raise PlannedError("as planned")


def _turns(node: Node) -> list[Node]:
    return node["of"] if node["do"] == "seq" else [node["of"]] * node["times"]


async def _one_by_one(turns: list[Node], seen: str) -> list[Any]:
    results: list[Any] = []
    for each in turns:
        results.append(await _perform(each, seen))
        seen = digest(seen, results[-1])
    return results


async def _call(node: Node, seen: str) -> str:
    retry = Retry(attempts=node["attempts"], min_delay=node["delay"] / 1_000)
    timeout = timedelta(milliseconds=node["timeout"]) if node["timeout"] else None
    match node["how"]:
        case "declared":
            return await act_declared.options(retry=retry, timeout=timeout)(node, seen)
        case "plain":
            return await step.run(node["name"], act_plainly, node, seen, retry=retry)
        case _:
            return await step.run(node["name"], act, node, seen, retry=retry, timeout=timeout)


async def _at_once(node: Node, seen: str) -> Any:
    works: list[Coroutine[Any, Any, Any]] = [
        _perform(child, f"{seen}/{place}") for place, child in enumerate(node["of"])
    ]
    match node["do"]:
        case "gather":
            return ["all", await asyncio.gather(*works)]
        case "group":
            return ["all", await _as_group(works)]
        case _:
            return await _race(works)


async def _as_group(works: list[Coroutine[Any, Any, Any]]) -> list[Any]:
    failed: StepFailed | None = None
    tasks: list[asyncio.Task[Any]] = []
    me = cast("asyncio.Task[Any]", asyncio.current_task())
    cancels = me.cancelling()
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(work) for work in works]
    except* StepFailed as several:
        failed = next(_leaves(several))
    # Before Python 3.13 a group that fails while it waits for the rest leaves its own request to
    # cancel behind, and a time-out around it then lets a CancelledError out.
    while me.cancelling() > cancels:
        me.uncancel()
    if failed is not None:
        raise failed
    return [task.result() for task in tasks]


def _leaves(several: BaseExceptionGroup[StepFailed]) -> Any:
    for each in several.exceptions:
        if isinstance(each, BaseExceptionGroup):
            yield from _leaves(each)
        else:
            yield each


async def _race(works: list[Coroutine[Any, Any, Any]]) -> list[Any]:
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
    winner = next(place for place, task in enumerate(tasks) if task in done)
    return ["won", winner, tasks[winner].result()]


async def _try(node: Node, seen: str) -> list[Any]:
    try:
        return ["done", await _perform(node["of"], seen)]
    except StepFailed as failure:
        seen = digest(seen, failure.error_type)
        return ["undone", failure.error_type, await _perform(node["undo"], seen)]


async def _within(node: Node, seen: str) -> list[Any]:
    try:
        async with asyncio.timeout(node["ms"] / 1_000):
            return ["in time", await _perform(node["of"], seen)]
    except TimeoutError:
        return ["timed out"]


async def _pause(node: Node) -> list[Any]:
    before = step.now()
    if node["do"] == "sleep":
        await step.sleep(node["name"], timedelta(milliseconds=node["ms"]))
    else:
        await asyncio.sleep(node["ms"] / 1_000)
    return ["slept", _since(before)]


def _since(before: datetime) -> int:
    return round((step.now() - before) / timedelta(milliseconds=1))


async def _signal(node: Node) -> list[Any]:
    timeout = timedelta(milliseconds=node["ms"]) if node["ms"] else None
    before = step.now()
    value = await step.wait_for_signal(node["name"], TYPES[node["type"]], timeout=timeout)
    return ["no signal", _since(before)] if value is None else ["signal", value]


async def _same(name: str) -> list[Any]:
    """What is drawn in workflow code is drawn alike on every replay."""
    drawn = [str(step.uuid()), step.now().isoformat(), step.random().random()]
    recorded = await step.run(name, echo, drawn)
    return ["same"] if recorded == drawn else ["changed", recorded, drawn]


async def _beyond(node: Node) -> list[Any]:
    name, order = node["name"], {"plan": node["plan"], "twin": False}
    match node["do"]:
        case "child":
            timeout = timedelta(milliseconds=node["ms"]) if node["ms"] else None
            return ["child", await step.invoke(name, script, order, timeout=timeout)]
        case "start":
            return ["started", await step.start(name, script, order)]
        case _:
            told: Event[Any] = Event("sim/go", data=order, id=node["id"] or None)
            return ["told", await step.send_event(name, told)]


# Steps


async def act(spec: dict[str, Any], seen: str) -> str:
    execution = _begin(spec)
    duration_ms, then = _try_of(spec)
    try:
        if then == "crash":
            _process().crash("by its step")
        await asyncio.sleep(3_600 if then in ("hang", "crash") else duration_ms / 1_000)
    except asyncio.CancelledError:
        _end(execution, Ending.CANCELLED, "CancelledError")
        raise
    return _outcome(execution, spec, then, seen)


@step(name="declared")
async def act_declared(spec: dict[str, Any], seen: str) -> str:
    return await act(spec, seen)


def act_plainly(spec: dict[str, Any], seen: str) -> str:
    execution = _begin(spec)
    _, then = _try_of(spec)
    if then == "crash":
        _process().crash("by its step")
    return _outcome(execution, spec, then, seen)


async def echo(drawn: list[Any]) -> list[Any]:
    execution = _begin({"name": "echo", "attempts": 3, "timeout": 0})
    _end(execution, Ending.RETURNED, repr(drawn))
    return drawn


def value_of(spec: dict[str, Any], seen: str) -> str:
    return f"{spec['name']}:{digest(seen, spec['name'])}"


def _outcome(execution: Execution, spec: dict[str, Any], then: str, seen: str) -> str:
    error: Exception | None = None
    match then:
        case "fail":
            error = RuntimeError("the tool does not answer")
        case "fatal":
            error = Fatal("the tool says never")
        case "after":
            error = RetryAfter(timedelta(milliseconds=RETRY_AFTER_MS))
        case _:
            value = value_of(spec, seen)
            _end(execution, Ending.RETURNED, value)
            return value
    _end(execution, Ending.RAISED, type(error).__name__)
    raise error


def _try_of(spec: dict[str, Any]) -> tuple[int, str]:
    tries = spec["tries"]
    duration_ms, then = tries[min(current_run().attempt, len(tries)) - 1]
    return duration_ms, then


def _process() -> SimProcess:
    return cast("SimProcess", cast("SimLoop", asyncio.get_running_loop()).owner)


def _begin(spec: dict[str, Any]) -> Execution:
    process, run = _process(), current_run()
    run_id, _, step_id = run.idempotency_key.partition(":")
    now_us = process.universe.now_us
    execution = Execution(run.id, step_id, run.attempt, process.name, now_us, spec)
    process.stage.executions.append(execution)
    process.stage.note(process.name, "runs %s of %s, attempt %d", step_id, run_id, run.attempt)
    if run_id != run.id:
        process.stage.problem(f"the idempotency key {run.idempotency_key} is not of run {run.id}")
    return execution


def _end(execution: Execution, ending: Ending, value: str) -> None:
    process = _process()
    if not process.is_alive:
        return
    execution.ending, execution.value = ending, value
    execution.ended_us = process.universe.now_us
    process.stage.note(
        process.name, "%s of %s, attempt %d: %s %s",
        execution.step, execution.run_id, execution.attempt, ending.value, value,
    )  # fmt: skip
