"""The program of a child process that runs attempts: `python -m stepfold.engine.isolated_main FD`.

It reads what to do from its standard input, a setup and then one replay after the other,
runs the workflow's code until that makes the step's call, and executes it as a worker
would, on one event loop for all its life. FD is the pipe for results. It ends when its
input does, with its parent, and when a step asks for more memory than it may have.
"""

from __future__ import annotations

import asyncio
import contextvars
import faulthandler
import os
import pickle
import resource
import signal
import sys
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import chain
from typing import IO, Any, NamedTuple, NoReturn, TypeVar

from stepfold.core.errors import StepfoldError
from stepfold.engine.execution import Failed, Result, TimedOut, failed_by, outcome_of
from stepfold.engine.isolated_process import (
    EXIT_OUT_OF_MEMORY,
    HAS_BEGUN,
    LENGTH,
    Replay,
    Setup,
    frame,
)
from stepfold.engine.process import die_with_parent, run_on_loop
from stepfold.engine.threads import Threads
from stepfold.sdk.activation import WorkflowInstance
from stepfold.sdk.app import App
from stepfold.sdk.calls import StepCall
from stepfold.sdk.loader import load_app
from stepfold.sdk.workflow import WorkflowDefinition
from stepfold.telemetry import configure_logging

T = TypeVar("T")


class Ready(NamedTuple):
    """The step's call, as the replay made it, and the context that its function runs in."""

    call: StepCall
    context: contextvars.Context


def main() -> None:
    results = os.fdopen(int(sys.argv[1]), "wb", 0)
    setup: Setup = _read(sys.stdin.buffer)
    die_with_parent(setup.parent_pid)
    # What crashes in native code shows where it was called, and only that: there is little room.
    faulthandler.enable(all_threads=False)
    if setup.memory_max_mb is not None:
        _bound_memory(setup.memory_max_mb)
    sys.path.insert(0, setup.directory)
    configure_logging()
    app = load_app(setup.target)
    run_on_loop(_serve(app, results, is_bounded=setup.memory_max_mb is not None))


async def _serve(app: App, results: IO[bytes], *, is_bounded: bool) -> NoReturn:
    loop = asyncio.get_running_loop()
    reading = ThreadPoolExecutor(1, thread_name_prefix="orders")
    while True:
        replay: Replay | None = await loop.run_in_executor(reading, _read, sys.stdin.buffer)
        if replay is None:
            _leave()
        definition = app.workflows[replay.workflow]
        ready = await _from_callback(partial(replayed, definition, replay))
        results.write(HAS_BEGUN)
        result = ready if isinstance(ready, Failed) else await _executed(ready, is_bounded)
        results.write(frame(result))
        if isinstance(result, TimedOut):
            _leave()  # a plain function may run on, and nobody shares a process with it


async def _from_callback(work: Callable[[], T]) -> T:
    """The loops of runs must not be entered from inside a task."""
    done: asyncio.Future[T] = asyncio.get_running_loop().create_future()

    def call() -> None:
        try:
            done.set_result(work())
        except Exception as error:  # noqa: BLE001 - whoever awaits it raises it
            done.set_exception(error)

    asyncio.get_running_loop().call_soon(call)
    return await done


def replayed(definition: WorkflowDefinition[Any, Any], replay: Replay) -> Ready | Failed:
    """Run the workflow's code on what is recorded until it makes the step's call."""
    instance = WorkflowInstance(
        definition,
        run_id=replay.run_id,
        app=replay.app,
        tenant=replay.tenant,
        event_name=replay.event_name,
        event_id=replay.event_id,
        event_data=replay.event_data,
        started_at=replay.started_at,
    )
    for outcome in chain((None,), replay.outcomes):
        completion = instance.activate(outcome, replaying=True)
        for call in completion.calls:
            if isinstance(call, StepCall) and call.step == replay.step:
                return Ready(call, instance.step_context(replay.step, replay.attempt))
        if completion.end is not None:
            break
    return failed_by(NotReachedError(replay))


async def _executed(ready: Ready, is_bounded: bool) -> Result:
    loop = asyncio.get_running_loop()
    threads = Threads(loop, 1)
    attempt = loop.create_task(
        outcome_of(ready.call, threads, lets_through=(MemoryError,) if is_bounded else ()),
        context=ready.context,
    )
    loop.add_signal_handler(signal.SIGTERM, attempt.cancel)
    try:
        return await attempt
    except MemoryError as error:
        # Without the bound it would have cost the worker its process: that is not a failure,
        # which would be tried again, but what the attempt was isolated for.
        traceback.clear_frames(error.__traceback__)
        traceback.print_exception(error)
        sys.stderr.flush()
        os._exit(EXIT_OUT_OF_MEMORY)
    finally:
        loop.remove_signal_handler(signal.SIGTERM)
        threads.close()


def _leave() -> NoReturn:
    """Not by the interpreter's end, which would wait for threads that a step has left behind."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def _read(stream: IO[bytes]) -> Any:
    """The next frame; None when there will be none."""
    head = stream.read(LENGTH.size)
    if len(head) < LENGTH.size:
        return None
    (length,) = LENGTH.unpack(head)
    return pickle.loads(stream.read(length))


def _bound_memory(memory_max_mb: int) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    soft = memory_max_mb * 1024 * 1024
    if hard != resource.RLIM_INFINITY:
        soft = min(soft, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


class NotReachedError(StepfoldError):
    """The replay in the child went another way than the workflow in the worker."""

    def __init__(self, replay: Replay) -> None:
        super().__init__(
            f"the replay of workflow {replay.workflow!r} did not come to step {replay.step!r};"
            " what the code does between steps must be the same every time: move clocks, random"
            " numbers and whatever else may differ into a step"
        )


if __name__ == "__main__":
    main()
