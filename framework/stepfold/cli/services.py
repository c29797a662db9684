"""The programs that stay: worker and projections."""

from __future__ import annotations

import asyncio
import signal
from typing import Annotated

import typer

from stepfold.cli.connection import AsJson, Servers, kafka_of
from stepfold.cli.output import say, show

Store = Annotated[
    str | None, typer.Option("--store", help="Database URL; default: SQLite in .stepfold.")
]

Apps = Annotated[
    list[str] | None,
    typer.Option("--app", help="Only this app; repeatable. Default: settings, then all."),
]


def worker(
    targets: Annotated[list[str], typer.Argument(metavar="MODULE:APP...")],
    processes: Annotated[
        int | None, typer.Option(min=1, max=256, help="Worker processes; default: settings, 1.")
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="Stable name of this worker; default: the host's.")
    ] = None,
    unsafe_dev: Annotated[
        bool | None, typer.Option("--unsafe-dev", help="Accept topics with a single replica.")
    ] = None,
    health: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT",
            help="Serve /livez, /readyz and /metrics; further processes take the next ports.",
        ),
    ] = None,
    bootstrap_servers: Servers = None,
) -> None:
    """Run workflows until SIGTERM. Example: stepfold worker agents.research:app --processes 2"""
    from stepfold.engine.health import parse_address
    from stepfold.engine.process import EngineOptions
    from stepfold.engine.supervisor import Supervisor, supervise
    from stepfold.sdk.loader import load_app
    from stepfold.settings import settings
    from stepfold.telemetry import configure_logging

    known = settings()
    configure_logging(known.log_level)
    for target in targets:
        load_app(target)  # what is wrong with it is said here, once, and not by each process
    count = processes or known.worker.processes
    health = health or known.worker.health
    if health is not None:
        parse_address(health, count - 1)  # for the same reason
    options = EngineOptions(
        max_lost=known.worker.max_lost,
        isolated_max=known.worker.isolated_max,
        isolated_memory_mb=known.worker.isolated_memory_mb,
        health=health,
    )
    servers, config = kafka_of(bootstrap_servers)
    code = supervise(
        lambda: Supervisor(
            targets,
            bootstrap_servers=servers,
            kafka_config=config,
            processes=count,
            name=name or known.worker.name,
            unsafe_dev=known.worker.unsafe_dev if unsafe_dev is None else unsafe_dev,
            options=options,
            ready=lambda: say(f"ready: {', '.join(targets)} on {servers}"),
        )
    )
    raise typer.Exit(code)


projections = typer.Typer(
    help="Trace projection, resumption and HTTP API. Example: stepfold projections",
    invoke_without_command=True,
)


@projections.callback()
def run(
    context: typer.Context,
    store: Store = None,
    listen: Annotated[
        str | None, typer.Option(help="HOST:PORT of the HTTP API; default: 127.0.0.1:8484.")
    ] = None,
    app: Apps = None,
    bootstrap_servers: Servers = None,
) -> None:
    """Trace projection and HTTP API. Example: stepfold projections --listen 127.0.0.1:8484"""
    if context.invoked_subcommand is not None:
        return
    from stepfold.settings import settings
    from stepfold.telemetry import configure_logging
    from stepfold_projections.service import ProjectionService

    known = settings()
    configure_logging(known.log_level)
    servers, config = kafka_of(bootstrap_servers)
    service = ProjectionService(
        servers,
        store=store or known.projections.store,
        listen=listen or known.projections.listen,
        apps=app or known.projections.apps,
        kafka_config=config,
    )

    async def serve() -> None:
        stopping = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stopping.set)
        await service.run(stopping=stopping, ready=lambda address: say(f"ready: {address}"))

    asyncio.run(serve())


@projections.command()
def rebuild(
    store: Store = None,
    app: Apps = None,
    bootstrap_servers: Servers = None,
    as_json: AsJson = False,
) -> None:
    """Fill the store anew from the log. Example: stepfold projections rebuild --app research"""
    import time

    from stepfold.settings import settings
    from stepfold_projections import service

    servers, config = kafka_of(bootstrap_servers)
    known = settings().projections
    url = store or known.store
    begun = time.monotonic()

    def progress(done: int, total: int) -> None:
        say(f"{done} of {total} records")

    done = asyncio.run(
        service.rebuild(
            servers, store=url, apps=app or known.apps, kafka_config=config, progress=progress
        )
    )
    seconds = time.monotonic() - begun
    facts = {"records": done, "seconds": round(seconds, 2), "store": url}
    show(facts, f"{done} records in {seconds:.1f} s, into {url}", as_json=as_json)
