"""Types flow through steps, waits, workflows and the client: each assertion is of a type."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any, Literal, assert_type

from pydantic import BaseModel

from stepfold import App, Client, Concurrency, Event, Retry, RunHandle, cron, event, step
from stepfold.sdk.workflow import WorkflowDefinition

app = App("typed")


class Question(BaseModel):
    query: str


class Answer(BaseModel):
    text: str


@step
async def search(query: str, limit: int = 10) -> list[str]:
    return [query] * limit


@step(retry=Retry(attempts=3), timeout="1m")
def count(words: list[str]) -> int:
    return len(words)


async def plan(question: str) -> Answer:
    return Answer(text=question)


async def between(question: str, least: int = 0, most: int = 10) -> Answer:
    return Answer(text=f"{question} {least} {most}")


def rank(words: list[str], by: str) -> dict[str, float]:
    return dict.fromkeys([*words, by], 0.5)


class Tools:
    async def fetch(self, url: str) -> bytes:
        return url.encode()

    def parse(self, page: bytes) -> list[int]:
        return list(page)


async def declared_steps() -> None:
    assert_type(await search("tides"), list[str])
    assert_type(await search("tides", limit=5), list[str])
    assert_type(await count(["a"]), int)
    assert_type(await search.options(key="a", timeout=5)("tides"), list[str])


async def inline_steps(tools: Tools) -> None:
    assert_type(await step.run("plan", plan, "tides"), Answer)
    assert_type(await step.run("plan", plan, "tides", retry=Retry(attempts=1), key="a"), Answer)
    assert_type(await step.run("between", between, "tides", 0, 10), Answer)
    assert_type(await step.run("between", between, "tides"), Answer)
    assert_type(await step.run("between", partial(between, most=5), "tides"), Answer)
    assert_type(await step.run("rank", rank, ["a"], "b"), dict[str, float])
    assert_type(await step.run("fetch", tools.fetch, "https://"), bytes)
    assert_type(await step.run("parse", tools.parse, b""), list[int])
    assert_type(await step.run("again", search, "tides", 5), list[str])
    assert_type(await step.run("partly", partial(plan, "tides")), Answer)
    assert_type(await step.run("partly", partial(rank, ["a"]), "b"), dict[str, float])
    assert_type(await step.run("lambda", lambda: 5), int)
    assert_type(await step.run("lambda", lambda: plan("tides")), Answer)


async def asyncio_of_steps(queries: list[str]) -> None:
    assert_type(await asyncio.gather(*(search(query) for query in queries)), list[list[str]])
    assert_type(await asyncio.gather(search("a"), count(["b"])), tuple[list[str], int])
    assert_type(await asyncio.create_task(count(["a"])), int)
    assert_type(await asyncio.wait_for(search("a"), 60), list[str])
    for each in asyncio.as_completed([count([query]) for query in queries]):
        assert_type(await each, int)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(search("a"))
    assert_type(task.result(), list[str])


async def waits() -> None:
    assert_type(await step.wait_for_signal("approval", bool), bool | None)
    assert_type(await step.wait_for_signal("answer", Answer, timeout="24h"), Answer | None)
    assert_type(await step.wait_for_signal("answers", list[Answer]), list[Answer] | None)
    # Types that are no classes: checkers cannot take the type from a value of them yet.
    assert_type(await step.wait_for_signal("vote", Literal["yes", "no"]), Any)


@app.workflow
async def bare(question: Question) -> Answer:
    return Answer(text=question.query)


@app.workflow()
async def with_brackets(question: Question) -> list[str]:
    return [question.query]


@app.workflow("named")
async def positional_name(question: dict[str, str]) -> int:
    return len(question)


@app.workflow(
    name="in-full",
    on=[event("agent/run", if_="event.data.query != ''"), cron("0 6 * * 1-5", input={})],
    tenant="event.data.account_id",
    concurrency=Concurrency(key="event.data.account_id", limit=2),
    timeout="10m",
    retry=Retry(attempts=2),
    on_exhausted="pause",
)
async def in_full(question: Question) -> dict[str, object]:
    return {"query": question.query}


@app.workflow
async def without_input() -> Answer:
    return Answer(text="")


@app.workflow
async def with_default(question: Question = Question(query="tides")) -> Answer:  # noqa: B008
    return Answer(text=question.query)


@app.workflow(on=event("asked"))
async def with_event(event: Event[Question]) -> Answer:
    return Answer(text=event.data.query if event.data is not None else "")


def definitions() -> None:
    assert_type(bare, WorkflowDefinition[Question, Answer])
    assert_type(with_brackets, WorkflowDefinition[Question, list[str]])
    assert_type(positional_name, WorkflowDefinition[dict[str, str], int])
    assert_type(in_full, WorkflowDefinition[Question, dict[str, object]])
    assert_type(without_input, WorkflowDefinition[None, Answer])
    assert_type(with_default, WorkflowDefinition[Question, Answer])
    assert_type(with_event, WorkflowDefinition[Question, Answer])


async def calls_beyond_the_run() -> None:
    assert_type(await step.invoke("child", bare, Question(query="tides")), Answer)
    assert_type(await step.invoke("child", without_input), Answer)
    assert_type(await step.invoke("child", "typed/bare", {"query": "tides"}, timeout="1h"), Any)
    assert_type(await step.start("child", bare, Question(query="tides")), str)
    assert_type(await step.send_event("tell", Event("asked", data={"query": "tides"})), str)


async def client_of_workflows(client: Client) -> None:
    handle = await client.start(bare, Question(query="tides"), idempotency_key="q-17")
    assert_type(handle, RunHandle[Answer])
    assert_type(await handle.result(timeout=60), Answer)
    assert_type(await (await client.start(without_input)).result(), Answer)
    assert_type(await client.start(with_event, Question(query="tides")), RunHandle[Answer])
    assert_type(await client.start("typed", "bare", {"query": "tides"}), RunHandle[Any])


async def workflow_called_directly() -> None:
    assert_type(await bare(Question(query="tides")), Answer)
