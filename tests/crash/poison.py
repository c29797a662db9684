"""An app with steps that kill whatever process they run in, and with honest ones beside them."""

from __future__ import annotations

import asyncio
import ctypes
import os
import resource
import signal
import sys

from stepfold import App, current_run, event, step
from tests.crash.agents import APP_VARIABLE, note

HONEST_STEPS = 12
HONEST_STEP_S = 0.25
CHUNK_BYTES = 64 * 1024 * 1024

app = App(os.environ.get(APP_VARIABLE, "unused"))


@step
def exits() -> None:
    print("about to exit, of all things", file=sys.stderr, flush=True)  # noqa: T201 - evidence
    os._exit(3)


@step
async def crashes() -> None:
    ctypes.string_at(0)


@step
def eats_memory() -> int:
    """Where nothing bounds it, it does to itself what the kernel would do in the end."""
    if resource.getrlimit(resource.RLIMIT_DATA)[0] == resource.RLIM_INFINITY:
        os.kill(os.getpid(), signal.SIGKILL)
    eaten: list[bytearray] = []
    while True:
        eaten.append(bytearray(CHUNK_BYTES))


@app.workflow(on=event("poison/exit"))
async def exit_run() -> None:
    await exits()


@app.workflow(on=event("poison/crash"))
async def crash_run() -> None:
    await crashes()


@app.workflow(on=event("poison/memory"))
async def memory_run() -> None:
    await eats_memory()


@app.workflow(on=event("honest"))
async def honest() -> int:
    async def work(number: int) -> int:
        run = current_run()
        await asyncio.to_thread(note, f"{run.idempotency_key} {run.attempt}\n")
        await asyncio.sleep(HONEST_STEP_S)
        return number + 1

    number = 0
    for _ in range(HONEST_STEPS):
        number = await step.run("work", work, number)
    return number
