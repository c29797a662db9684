"""The workflows that `stepfold bench` measures: steps that do nothing."""

from __future__ import annotations

import time

from pydantic import BaseModel

from stepfold import App, event, step

app = App("bench")


class Work(BaseModel):
    steps: int


@step
async def tick(number: int) -> int:
    """Returns the time, so that consecutive results tell what a step costs."""
    return time.perf_counter_ns()


@app.workflow(on=event("bench/go"))
async def chain(work: Work) -> list[int]:
    """One step after the other; the result is the time at which each was executed."""
    return [await tick(number) for number in range(work.steps)]
