"""The sample agent of `stepfold demo`: a researcher with tools that fail and a person who approves.

Nothing here is faked for the demo but the model and the tools themselves. Each call of
a step leaves a line in a file, if the demo names one: the log tells what stepfold
thinks was executed, the file tells what was.
"""

from __future__ import annotations

import asyncio
import os
from datetime import timedelta
from pathlib import Path

from pydantic import BaseModel

from stepfold import App, Retry, current_run, event, step

TALLY_VARIABLE = "STEPFOLD_DEMO_TALLY"
THINKING_S = 0.25
READING_S = 1.2

app = App("demo")


class Question(BaseModel):
    account_id: str
    query: str


class Plan(BaseModel):
    queries: list[str]


class Report(BaseModel):
    summary: str
    sources: list[str]
    approved: bool


def _tally() -> None:
    path = os.environ.get(TALLY_VARIABLE)
    if path:
        run = current_run()
        with Path(path).open("a") as file:
            file.write(f"{run.idempotency_key} {run.attempt}\n")


@step
async def plan(query: str) -> Plan:
    _tally()
    await asyncio.sleep(THINKING_S)
    return Plan(queries=[f"{query}: {part}" for part in ("history", "costs", "risks")])


@step(timeout="30s")
async def search(query: str) -> list[str]:
    _tally()
    await asyncio.sleep(THINKING_S)
    return [f"{query} (source {number})" for number in (1, 2)]


@step(retry=Retry(attempts=5, min_delay="300ms", factor=1.5))
async def fetch_prices(query: str) -> list[str]:
    """A flaky tool: its first two attempts fail."""
    _tally()
    await asyncio.sleep(THINKING_S / 2)
    if current_run().attempt <= 2:
        raise ConnectionError(f"503 from the price service, attempt {current_run().attempt}")
    return [f"prices for {query}"]


@step
def read(source: str) -> str:
    """A plain function: it runs in a thread."""
    _tally()
    return f"notes on {source}"


@step
async def study(sources: list[str]) -> str:
    """The long step in whose middle the demo kills the worker."""
    _tally()
    await asyncio.sleep(READING_S)
    return f"{len(sources)} sources studied"


@step
async def write(notes: list[str], approved: bool) -> str:
    _tally()
    await asyncio.sleep(THINKING_S)
    return f"report of {len(notes)} notes, {'approved' if approved else 'not approved'}"


@app.workflow(on=[event("demo/ask", if_="event.data.query != ''")], tenant="event.data.account_id")
async def researcher(question: Question) -> Report:
    planned = await plan(question.query)
    *found, prices = await asyncio.gather(
        *(search(query) for query in planned.queries), fetch_prices(question.query)
    )
    sources = [source for sources in found for source in sources] + prices
    studied = await study(sources)
    notes = await asyncio.gather(*(read(source) for source in sources[:2]))
    await step.sleep("cool-down", "500ms")
    approved = await step.wait_for_signal("approval", bool, timeout=timedelta(hours=24))
    summary = await write([studied, *notes], approved is True)
    return Report(summary=summary, sources=sources, approved=approved is True)
