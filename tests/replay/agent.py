"""The workflows whose recorded histories are replayed. They are changed never: a new release
that needs other code gets a module of its own."""

from __future__ import annotations

import asyncio
from typing import Any

from pydantic import BaseModel

from stepfold import App, Event, Fatal, Retry, StepFailed, current_run, event, step

APP = "recorded"
app = App(APP, retry=Retry(attempts=3, min_delay="10ms", jitter=0))


class Question(BaseModel):
    account: str
    number: int


class Answer(BaseModel):
    number: int
    approved: bool


@step
async def double(number: int) -> int:
    return number * 2


@step
def plain(number: int) -> int:
    return number + 1


@step
async def flaky(number: int) -> int:
    if current_run().attempt < 3:
        raise ConnectionError(f"503 for {number}")
    return number


@step(timeout="20ms", retry=Retry(attempts=1))
async def slow() -> None:
    await asyncio.sleep(5)


@app.workflow(on=event("recorded/ask"), tenant="event.data.account")
async def agent(question: Question) -> Answer:
    first = await double(question.number)
    second, third = await asyncio.gather(flaky(first), plain(first))
    await step.sleep("nap", "20ms")
    approved = await step.wait_for_signal("approval", bool, timeout="1h")
    drawn = step.random().randrange(10)
    return Answer(number=second + third + drawn, approved=approved is True)


@app.workflow
async def compensates(number: int) -> list[str]:
    told: list[str] = []
    try:
        await slow()
    except StepFailed as failure:
        told.append(failure.error_type)
    try:
        await step.run("refund", refuse, number)
    except StepFailed as failure:
        told.append(failure.error_message)
    return told


async def refuse(number: int) -> None:
    raise Fatal(f"no account {number}")


@app.workflow
async def timers(number: int) -> str:
    try:
        async with asyncio.timeout(0.05):
            await step.wait_for_signal("never", bool)
    except TimeoutError:
        await asyncio.sleep(0.02)
    queue: asyncio.Queue[int] = asyncio.Queue()
    async with asyncio.TaskGroup() as tasks:
        for n in range(number):
            tasks.create_task(_put(queue, n))
    return ",".join(str(queue.get_nowait()) for _ in range(number))


async def _put(queue: asyncio.Queue[int], number: int) -> None:
    queue.put_nowait(await double(number))


@app.workflow
async def parent(number: int) -> dict[str, Any]:
    sent = await step.send_event(
        "tell", Event("recorded/ask", data={"account": "child", "number": number}, id="evt-child")
    )
    told = await step.invoke("timers", timers, 3)
    apart = await step.start("apart", compensates, number)
    return {"sent": sent, "told": told, "apart": apart != ""}


@app.workflow
async def fails(number: int) -> None:
    raise ValueError(f"no such city: {number}")


@app.workflow
async def endless() -> None:
    try:
        await step.wait_for_signal("never", bool)
    finally:
        await double(21)  # undone durably, though the run is cancelled
