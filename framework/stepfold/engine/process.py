"""What a worker process does from its first line to its last.

Started by the supervisor as a fresh interpreter: a Kafka client does not survive a
fork. It ends with its parent, so that a supervisor killed with -9 leaves no worker
behind that nobody supervises.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import json
import logging
import os
import signal
import sys
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ConfigDict

from stepfold.core.decide import MAX_LOST
from stepfold.core.errors import StepfoldError
from stepfold.engine.isolation import MEMORY_MAX_MB
from stepfold.engine.places import ISOLATED_MAX

if TYPE_CHECKING:
    from collections.abc import Coroutine, Sequence

    from stepfold.sdk.app import App

logger = logging.getLogger(__name__)

T = TypeVar("T")

COLLECTOR_THRESHOLDS = (50_000, 20, 50)
"""Objects before the youngest are looked through, and how often that is before older ones are."""
PR_SET_PDEATHSIG = 1
"""Linux: the signal this process gets when its parent's thread ends (prctl(2))."""


class EngineOptions(BaseModel):
    """What a worker may be told otherwise; the settings of the same names say what it means."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_lost: int = MAX_LOST
    isolated_max: int = ISOLATED_MAX
    isolated_memory_mb: int = MEMORY_MAX_MB
    stale_loop_s: float | None = None
    """After which the process ends itself when its loop does not turn; None: as rule R15 says."""
    health: str | None = None


class ProcessOrder(BaseModel):
    """What the supervisor tells a worker process, as JSON in its environment."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    targets: tuple[str, ...]
    bootstrap_servers: str
    kafka_config: dict[str, str]
    instance_id: str
    unsafe_dev: bool
    parent_pid: int
    directory: Path
    number: int = 0
    """Which of the supervisor's processes it is."""
    options: EngineOptions = EngineOptions()


ORDER_VARIABLE = "STEPFOLD_PROCESS_ORDER"
READY_LINE = "stepfold-worker-ready"


def main() -> int:
    """The entry of `python -m stepfold.engine.process`; returns the exit code."""
    order = ProcessOrder.model_validate_json(os.environ[ORDER_VARIABLE])
    die_with_parent(order.parent_pid)
    sys.path.insert(0, str(order.directory))
    from stepfold.sdk.loader import load_app
    from stepfold.telemetry import configure_logging

    configure_logging()
    try:
        apps = [load_app(target) for target in order.targets]
        tune_collector()
        run_on_loop(_work(order, apps))
    except StepfoldError as error:
        print(json.dumps({"error": str(error), "type": type(error).__name__}), file=sys.stderr)  # noqa: T201
        from stepfold.cli.exits import exit_code_of

        return exit_code_of(error)
    return 0


def tune_collector() -> None:
    """Look for cycles less often: nearly all of what a step leaves behind has none.

    What was loaded by now stays for the life of the process. A sixth of the CPU time of a
    step was spent on looking.
    """
    gc.freeze()
    gc.set_threshold(*COLLECTOR_THRESHOLDS)


def die_with_parent(parent_pid: int) -> None:
    """Have the kernel kill this process when its parent dies, however it dies."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent_pid:
        os._exit(1)  # the parent was gone before we asked


def run_on_loop(work: Coroutine[Any, Any, T]) -> T:
    """On the kind of event loop that steps run on."""
    if sys.platform == "win32":
        return asyncio.run(work)
    import uvloop

    return uvloop.run(work)


async def _work(order: ProcessOrder, apps: Sequence[App]) -> None:
    from stepfold.engine.health import parse_address, serve_health
    from stepfold.engine.isolation import Isolation
    from stepfold.engine.surroundings import Limits
    from stepfold.engine.watchdog import LastResort, LoopWatch
    from stepfold.engine.worker import Worker
    from stepfold.journal.inbox import STALE_LOOP_S
    from stepfold.journal.kafka import KafkaJournal

    options = order.options
    stale_loop_s = options.stale_loop_s or STALE_LOOP_S
    journal = KafkaJournal(
        bootstrap_servers=order.bootstrap_servers,
        config=order.kafka_config,
        instance_id=order.instance_id,
        unsafe_dev=order.unsafe_dev,
        stale_loop_s=stale_loop_s,
    )
    targets = {app.name: target for app, target in zip(apps, order.targets, strict=True)}
    worker = Worker(
        journal,
        apps,
        worker_id=f"{order.instance_id}:{os.getpid()}",
        limits=Limits(max_lost=options.max_lost),
        isolation=Isolation(
            targets, order.directory, memory_max_mb=options.isolated_memory_mb or None
        ),
        isolated_max=options.isolated_max,
    )
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, _stop, stopping)
    watch, last_resort = LoopWatch(loop), LastResort(loop, stale_loop_s)
    try:
        async with AsyncExitStack() as stack:
            if options.health is not None:
                address = parse_address(options.health, order.number)
                await stack.enter_async_context(
                    serve_health(address, shards=worker.shards, is_ready=lambda: worker.is_ready)
                )
            await worker.run(ready=_say_ready, stopping=stopping)
    finally:
        last_resort.close()
        watch.close()


def _stop(stopping: asyncio.Event) -> None:
    if stopping.is_set():
        os._exit(130)  # the second signal: at once
    logger.info("stopping, running steps get time to end; a second signal ends at once")
    stopping.set()


def _say_ready() -> None:
    print(READY_LINE, flush=True)  # noqa: T201 - read by the supervisor


if __name__ == "__main__":
    sys.exit(main())
