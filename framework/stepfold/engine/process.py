"""What a worker process does from its first line to its last.

Started by the supervisor as a fresh interpreter: a Kafka client does not survive a
fork. It ends with its parent, so that a supervisor killed with -9 leaves no worker
behind that nobody supervises.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import logging
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict

from stepfold.core.errors import StepfoldError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stepfold.sdk.app import App

logger = logging.getLogger(__name__)

EXIT_WATCHDOG = 70
PR_SET_PDEATHSIG = 1
"""Linux: the signal this process gets when its parent's thread ends (prctl(2))."""


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
        _run(order, apps)
    except StepfoldError as error:
        print(json.dumps({"error": str(error), "type": type(error).__name__}), file=sys.stderr)  # noqa: T201
        from stepfold.cli.exits import exit_code_of

        return exit_code_of(error)
    return 0


def die_with_parent(parent_pid: int) -> None:
    """Have the kernel kill this process when its parent dies, however it dies."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent_pid:
        os._exit(1)  # the parent was gone before we asked


def _run(order: ProcessOrder, apps: Sequence[App]) -> None:
    if sys.platform == "win32":
        asyncio.run(_work(order, apps))
        return
    import uvloop

    uvloop.run(_work(order, apps))


async def _work(order: ProcessOrder, apps: Sequence[App]) -> None:
    from stepfold.engine.worker import LoopWatch, Worker
    from stepfold.journal.kafka import KafkaJournal

    journal = KafkaJournal(
        bootstrap_servers=order.bootstrap_servers,
        config=order.kafka_config,
        instance_id=order.instance_id,
        unsafe_dev=order.unsafe_dev,
    )
    worker_id = f"{order.instance_id}:{os.getpid()}"
    worker = Worker(journal, apps, worker_id=worker_id)
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, _stop, stopping)
    watch = LoopWatch(loop)
    try:
        await worker.run(ready=_say_ready, stopping=stopping)
    finally:
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
