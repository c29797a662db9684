"""The app that the crash tests run in worker processes of its own.

Its name comes from the environment, so that every test has topics of its own. Each
execution leaves a line in a file: the log says what stepfold thinks, this what was.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from pydantic import BaseModel

from stepfold import App, Retry, current_run, event, step

APP_VARIABLE = "STEPFOLD_TEST_APP"
TALLY_VARIABLE = "STEPFOLD_TEST_TALLY"
STEP_S = 0.05

app = App(os.environ.get(APP_VARIABLE, "unused"), retry=Retry(attempts=3, min_delay="20ms"))


@step
async def work(number: int) -> int:
    run = current_run()
    line = f"{run.idempotency_key} {run.attempt}\n"
    await asyncio.to_thread(note, line)
    await asyncio.sleep(STEP_S)
    return number + 1


@step
async def flaky(number: int) -> int:
    if current_run().attempt == 1:
        raise ConnectionError("the first attempt fails")
    return number + 1


class Start(BaseModel):
    number: int
    rounds: int


@app.workflow(on=event("test/go"))
async def chain(start: Start) -> int:
    value = await work(start.number)
    first, second = await asyncio.gather(work(value), flaky(value))
    await step.sleep("nap", "30ms")
    value = await work(first + second)
    for _ in range(start.rounds):
        value = await work(value)
    return value


def note(line: str) -> None:
    path = os.environ.get(TALLY_VARIABLE)
    if path:
        with Path(path).open("a") as file:
            file.write(line)
