"""The programs that stay: worker."""

from __future__ import annotations

from typing import Annotated

import typer

from stepfold.cli.output import say
from stepfold.cli.topics import Servers


def worker(
    targets: Annotated[list[str], typer.Argument(metavar="MODULE:APP...")],
    processes: Annotated[int, typer.Option(min=1, max=256, help="Worker processes.")] = 1,
    name: Annotated[
        str | None, typer.Option(help="Stable name of this worker; default: the host's.")
    ] = None,
    unsafe_dev: Annotated[bool, typer.Option(help="Accept topics with a single replica.")] = False,
    bootstrap_servers: Servers = None,
) -> None:
    """Run workflows until SIGTERM. Example: stepfold worker agents.research:app --processes 2"""
    from stepfold.client.client import default_servers
    from stepfold.engine.supervisor import Supervisor, supervise
    from stepfold.sdk.loader import load_app
    from stepfold.telemetry import configure_logging

    configure_logging()
    for target in targets:
        load_app(target)  # what is wrong with it is said here, once, and not by each process
    servers = bootstrap_servers or default_servers()
    code = supervise(
        lambda: Supervisor(
            targets,
            bootstrap_servers=servers,
            processes=processes,
            name=name,
            unsafe_dev=unsafe_dev,
            ready=lambda: say(f"ready: {', '.join(targets)} on {servers}"),
        )
    )
    raise typer.Exit(code)
