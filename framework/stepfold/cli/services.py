"""The programs that stay: worker and projections."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

from stepfold.cli.connection import AsJson, Servers, admin_of, app_name, kafka_of
from stepfold.cli.exits import INTERRUPT, OK
from stepfold.cli.output import say, show
from stepfold.core.errors import ConfigurationError

if TYPE_CHECKING:
    from stepfold.engine.process import EngineOptions
    from stepfold.settings import WorkerSettings

Store = Annotated[
    str | None, typer.Option("--store", help="Database URL; default: SQLite in .stepfold.")
]

Apps = Annotated[
    list[str] | None,
    typer.Option(
        "--app",
        metavar="APP",
        parser=app_name,
        help="Only this app; repeatable. Default: settings, then all.",
    ),
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
    from stepfold.engine.supervisor import Supervisor
    from stepfold.sdk.loader import load_app
    from stepfold.settings import settings
    from stepfold.telemetry import configure_logging
    from stepfold_topics.guard import check, describe

    known = settings()
    configure_logging(known.log_level)
    # What is wrong is said here, once, and not by each process.
    apps = [load_app(target).name for target in targets]
    if len(set(apps)) < len(apps):
        raise ConfigurationError(f"two of {', '.join(targets)} are the same app; name each once")
    count = processes or known.worker.processes
    options = _engine_options(known.worker, health, count)
    servers, config = kafka_of(bootstrap_servers)
    unsafe = known.worker.unsafe_dev if unsafe_dev is None else unsafe_dev
    admin = admin_of(bootstrap_servers)
    for app in apps:
        check(describe(admin, app), unsafe_dev=unsafe)

    async def work() -> int:
        supervisor = Supervisor(
            targets,
            bootstrap_servers=servers,
            kafka_config=config,
            processes=count,
            name=name or known.worker.name,
            unsafe_dev=unsafe,
            options=options,
            ready=lambda: say(f"ready: {', '.join(targets)} on {servers}"),
        )
        interrupts = stop_by_signals(supervisor.stop)
        code = await supervisor.run()
        return INTERRUPT if interrupts else code

    raise typer.Exit(asyncio.run(work()))


def _engine_options(known: WorkerSettings, health: str | None, processes: int) -> EngineOptions:
    from stepfold.engine.health import parse_address
    from stepfold.engine.process import EngineOptions

    health = health or known.health
    if health is not None:
        parse_address(health, processes - 1)
    return EngineOptions(
        max_lost=known.max_lost,
        isolated_max=known.isolated_max,
        isolated_memory_mb=known.isolated_memory_mb,
        health=health,
    )


def stop_by_signals(stop: Callable[[], None]) -> list[signal.Signals]:
    """Have SIGTERM and SIGINT stop a service in order; the list is of those that were a Ctrl-C."""
    interrupts: list[signal.Signals] = []

    def interrupt() -> None:
        interrupts.append(signal.SIGINT)
        stop()

    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stop)
    loop.add_signal_handler(signal.SIGINT, interrupt)
    return interrupts


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

    async def serve() -> int:
        stopping = asyncio.Event()
        interrupts = stop_by_signals(stopping.set)
        await service.run(stopping=stopping, ready=lambda address: say(f"ready: {address}"))
        return INTERRUPT if interrupts else OK

    raise typer.Exit(asyncio.run(serve()))


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
