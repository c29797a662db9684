"""The app of test_bad_input's worker processes; its name comes from the environment."""

from __future__ import annotations

import asyncio
import os

from stepfold import App, current_run, step

APP_VARIABLE = "STEPFOLD_TEST_APP"

app = App(os.environ.get(APP_VARIABLE, "unused"))


async def exits() -> None:
    raise SystemExit(2)


async def leaves_a_task_that_exits() -> int:
    if current_run().attempt == 1:
        exiting = asyncio.get_running_loop().create_task(exits())
        await asyncio.wait((exiting,))
    return current_run().attempt


@app.workflow
async def ends_its_process() -> int:
    return await step.run("exit", leaves_a_task_that_exits)


@app.workflow
async def counts(steps: int) -> int:
    for number in range(steps):
        await step.run("count", asyncio.sleep, 0.02, number)
    return steps
