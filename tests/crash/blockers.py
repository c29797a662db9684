"""An app with steps that keep their worker's event loop from turning."""

from __future__ import annotations

import ctypes
import os
import threading

from stepfold import App, current_run, event, step
from tests.crash.agents import APP_VARIABLE

BLOCKED_S = 60
ALWAYS_BLOCKED_S = 4.0

app = App(os.environ.get(APP_VARIABLE, "unused"))


@step
async def block_once() -> int:
    if current_run().attempt == 1:
        threading.Event().wait(BLOCKED_S)
    return current_run().attempt


@step
async def hold_lock_once() -> int:
    """As native code does that never gives the interpreter's lock back."""
    if current_run().attempt == 1:
        ctypes.PyDLL(None).sleep(BLOCKED_S)
    return current_run().attempt


@step
async def block_always() -> int:
    threading.Event().wait(ALWAYS_BLOCKED_S)
    return current_run().attempt


@app.workflow(on=event("block_once"))
async def blocking_once() -> int:
    return await block_once()


@app.workflow(on=event("hold_lock_once"))
async def holding_lock_once() -> int:
    return await hold_lock_once()


@app.workflow(on=event("block_always"))
async def blocking_always() -> int:
    return await block_always()
