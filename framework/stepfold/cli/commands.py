"""The command line: one file per group of commands, no logic of its own.

Data goes to stdout, prose to stderr.
"""

from __future__ import annotations

from typing import Annotated

import typer

from stepfold.cli import config, kafka, log, runs, services, topics, triggers
from stepfold.cli.bench import bench
from stepfold.cli.demo import demo
from stepfold.cli.exits import FAILED, OK, exit_code_of
from stepfold.cli.missing import GroupWithMissing
from stepfold.core.errors import StepfoldError
from stepfold_topics.errors import TopicError

USERS_MISTAKES = (StepfoldError, TopicError, TimeoutError)

app = typer.Typer(
    name="stepfold",
    cls=GroupWithMissing,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


def _print_version(asked: bool) -> None:
    if asked:
        from importlib import metadata

        typer.echo(f"stepfold {metadata.version('stepfold')}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print it and exit."
        ),
    ] = False,
) -> None:
    """Durable workflows for AI agents, event-sourced on Kafka."""


app.command("demo")(demo)
app.command("bench")(bench)
app.add_typer(kafka.app, name="kafka")
app.add_typer(topics.app, name="topics")
app.command("worker")(services.worker)
app.add_typer(services.projections, name="projections")
app.command("send")(triggers.send)
app.command("start")(triggers.start)
app.command("signal")(triggers.signal)
app.add_typer(runs.app, name="runs")
app.add_typer(log.app, name="log")
app.add_typer(config.app, name="config")


def run() -> int:
    """The exit code; errors that are no user's mistake are raised.

    Typer itself answers wrong usage, with 2, and ends the process.
    """
    try:
        app(prog_name="stepfold")
    except USERS_MISTAKES as error:
        typer.echo(f"stepfold: {_text(error)}", err=True)
        return exit_code_of(error)
    except OSError as error:
        if error.filename is None:
            raise
        typer.echo(f"stepfold: {error.filename}: {error.strerror}", err=True)
        return FAILED
    return OK


def _text(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return f"timed out: {error}" if str(error) else "timed out"
    return str(error)
