"""Mistakes that type checkers are to find: an ignore that is not needed is an error here.

`type: ignore` speaks to mypy alone, `pyright: ignore` to basedpyright alone.
"""
# pyright: reportUnnecessaryTypeIgnoreComment=true

from __future__ import annotations

from functools import partial

from stepfold import App, Client, Retry, event, step
from tests.typing.flows import Answer, Question, Tools, bare, count, plan, rank, search

app = App("mistaken")


async def steps() -> None:
    await search(5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await search()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await search("a", most=5)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await search.options(keys="a")("a")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    length: str = await count(["a"])  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
    assert length


async def inline_steps(tools: Tools) -> None:
    await step.run("plan", plan, 5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType, reportCallIssue]
    await step.run("plan", plan)  # type: ignore[arg-type, call-arg]  # pyright: ignore[reportArgumentType, reportCallIssue]
    await step.run("plan", plan, "a", "b")  # type: ignore[arg-type, call-arg]  # pyright: ignore[reportArgumentType, reportCallIssue]
    await step.run("plan", plan, "a", attempts=5)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    await step.run("plan", plan("a"))  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    await step.run("rank", rank, ["a"], 5)  # type: ignore[arg-type, call-arg]  # pyright: ignore[reportArgumentType, reportCallIssue]
    await step.run("parse", tools.parse, "page")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType, reportCallIssue]
    await step.run("partly", partial(rank, ["a"]), retry=5)  # type: ignore[call-arg, call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    answer: str = await step.run("plan", plan, "a")  # type: ignore[arg-type]  # pyright: ignore[reportAssignmentType]
    assert answer


async def waits() -> None:
    approved: bool = await step.wait_for_signal("approval", bool)  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
    await step.wait_for_signal("approval", bool, timeout=[])  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    await step.sleep("nap", None)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    assert approved


def declarations() -> None:
    step(retry=5)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
    step(timeout=[])  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
    Retry(attempts="5")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    app.workflow(timout="5m")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    app.workflow(on="agent/run")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    app.workflow(on_exhausted="stop")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
    event("asked", if_=5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]

    @app.workflow  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType, reportCallIssue, reportUntypedFunctionDecorator]
    def plain(question: Question) -> Answer:
        return Answer(text=question.query)

    @app.workflow  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType, reportCallIssue, reportUntypedFunctionDecorator]
    async def with_two(question: Question, account: str) -> None: ...


async def client_of_workflows(client: Client) -> None:
    await client.start(bare, "tides")  # type: ignore[misc]  # pyright: ignore[reportArgumentType, reportCallIssue]
    await client.start(bare, {"query": "tides"})  # type: ignore[misc]  # pyright: ignore[reportArgumentType, reportCallIssue]
    await client.start("mistaken", bare)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    handle = await client.start(bare, Question(query="tides"))
    text: str = await handle.result()  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
    assert text
