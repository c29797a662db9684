"""`stepfold demo`: the whole path on this machine, with a worker that is killed in it."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stepfold.cli.connection import AsJson, Servers, ended_by_any_signal, stage_kafka
from stepfold.cli.exits import FAILED
from stepfold.cli.output import say, show
from stepfold.local import DEFAULT_STATE_DIR

if TYPE_CHECKING:
    from stepfold.demo.scenes import DemoResult

TREE_COLUMNS = 110
TRACES = "demo-traces.db"


def demo(
    exit_: Annotated[
        bool, typer.Option("--exit", help="End by itself; 0 only if all of it was as promised.")
    ] = False,
    listen: Annotated[str, typer.Option(help="HOST:PORT of the HTTP API.")] = "127.0.0.1:8484",
    state_dir: Annotated[Path, typer.Option(help="Folder of Kafka's data.")] = DEFAULT_STATE_DIR,
    bootstrap_servers: Servers = None,
    as_json: AsJson = False,
) -> None:
    """Kill a worker in the middle of a run and see the run finish. Example: stepfold demo --exit"""
    from stepfold.demo.scenes import alone_in, check_extras
    from stepfold.telemetry import configure_logging, quiet

    check_extras()
    quiet()
    configure_logging()
    folder = state_dir.absolute()
    with (
        alone_in(folder),
        ended_by_any_signal(),
        stage_kafka(folder, bootstrap_servers) as (servers, config),
    ):
        _make_topics(servers, config)
        # Filled anew each time: the topics may be other ones than those of the last demo.
        for old in folder.glob(f"{TRACES}*"):
            old.unlink()
        result = asyncio.run(_demo(servers, config, listen, folder, exit_, as_json))
    if result.problems:
        raise typer.Exit(FAILED)


def _make_topics(servers: str, config: dict[str, str]) -> None:
    from confluent_kafka.admin import AdminClient

    from stepfold.demo.scenes import APP, PARTITIONS
    from stepfold.journal.settings import admin_config
    from stepfold_topics.catalog import topics_of
    from stepfold_topics.provision import apply

    admin = AdminClient(admin_config(servers, config))
    apply(admin, topics_of(APP, partitions=PARTITIONS, replication=1))


async def _demo(
    servers: str, config: dict[str, str], listen: str, folder: Path, ends: bool, as_json: bool
) -> DemoResult:
    """Ctrl-C cancels it, wherever it is: what it began is ended on the way out."""
    from stepfold.cli.api import Api
    from stepfold.demo.scenes import Stage, play

    begun = time.monotonic()
    async with _projection(servers, config, listen, folder) as address:
        api = Api(address)
        stage = Stage(servers, config, folder / "demo.tally", api.get, api.post, say)
        result = await play(stage)
        _tell(result, address, time.monotonic() - begun, as_json)
        if not ends:
            say(f"\nthe HTTP API stays up at {address} (docs: {address}/docs); Ctrl-C ends it")
            await _interrupted()
    return result


async def _interrupted() -> None:
    """From here on Ctrl-C is no failure: the story is over."""
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, stopping.set)
    await stopping.wait()


@contextlib.asynccontextmanager
async def _projection(
    servers: str, config: dict[str, str], listen: str, folder: Path
) -> AsyncGenerator[str]:
    from stepfold.demo.scenes import APP
    from stepfold_projections.service import ListenError, ProjectionService, parse_listen

    host, _ = parse_listen(listen)
    store = f"sqlite:///{folder / TRACES}"
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()

    async def begin(where: str) -> tuple[asyncio.Task[None], str]:
        ready: asyncio.Future[str] = loop.create_future()
        service = ProjectionService(
            servers, apps=[APP], store=store, listen=where, kafka_config=config
        )
        work = service.run(stopping=stopping, ready=ready.set_result)
        serving = asyncio.create_task(work, name="projections")
        await asyncio.wait((serving, ready), return_when=asyncio.FIRST_COMPLETED)
        if serving.done():
            serving.result()
        return serving, ready.result()

    try:
        serving, address = await begin(listen)
    except ListenError:
        serving, address = await begin(f"{host}:0")
        say(f"{listen} is in use, the HTTP API is at {address}")
    try:
        yield address
    finally:
        stopping.set()
        await serving


def _tell(result: DemoResult, address: str, seconds: float, as_json: bool) -> None:
    if as_json:
        show(_facts(result, address, seconds), "", as_json=True)
    else:
        _print_story(result)
    for problem in result.problems:
        say(f"NOT AS PROMISED: {problem}")
    if not result.problems:
        say(f"no completed step ran twice; all of it took {seconds:.1f} s")
    say(f"the trace over HTTP: {address}/api/v1/runs/{result.run['id']}")


def _facts(result: DemoResult, address: str, seconds: float) -> dict[str, Any]:
    return {
        "run_id": result.run["id"],
        "status": result.run["status"],
        "killed_pid": result.killed_pid,
        "executions": _counts(result),
        "problems": result.problems,
        "api": address,
        "seconds": round(seconds, 1),
    }


def _counts(result: DemoResult) -> dict[str, int]:
    return {
        step["step"]: sum(
            result.executions.get(f"{result.run['id']}:{step['step']} {attempt['number']}", 0)
            for attempt in step["attempts"]
        )
        for step in result.run["steps"]
    }


def _print_story(result: DemoResult) -> None:
    from rich.console import Console
    from rich.table import Table

    from stepfold.cli.trace_tree import trace_tree

    console = Console(width=TREE_COLUMNS)
    console.print()
    console.print(trace_tree(result.run))
    table = Table(title="executions of each step, counted by the steps themselves")
    for column in ("step", "attempts in the log", "executed", "after it had completed"):
        table.add_column(column, justify="left" if column == "step" else "right")
    counts = _counts(result)
    for step in result.run["steps"]:
        tries = len(step["attempts"])
        again = counts[step["step"]] - tries
        table.add_row(step["step"], str(tries), str(counts[step["step"]]), str(again))
    console.print()
    console.print(table)
