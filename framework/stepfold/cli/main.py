"""The command line: one file per group of commands, no logic of its own.

What a user did wrong becomes one message and an exit code, never a traceback. Data goes
to stdout, prose to stderr.
"""

from __future__ import annotations

import sys

import typer
from pydantic import ValidationError

from stepfold.cli import config, kafka, log, runs, services, topics, triggers
from stepfold.cli.bench import bench
from stepfold.cli.demo import demo
from stepfold.cli.exits import INTERRUPT, TIMEOUT, exit_code_of
from stepfold.core.errors import StepfoldError

app = typer.Typer(
    name="stepfold",
    help="Durable workflows for AI agents, event-sourced on Kafka.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
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


def main() -> None:
    """The entry of the `stepfold` command."""
    try:
        app()
    except StepfoldError as error:
        typer.echo(f"stepfold: {error}", err=True)
        sys.exit(exit_code_of(error))
    except TimeoutError as error:
        typer.echo(f"stepfold: timed out {error}", err=True)
        sys.exit(TIMEOUT)
    except (ValueError, ValidationError) as error:
        typer.echo(f"stepfold: {error}", err=True)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(INTERRUPT)
