"""`stepfold log`: what is in an app's log, whether it is as promised, and a copy of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stepfold.cli.connection import AppName, AsJson, Servers, kafka_of, run_id
from stepfold.cli.exits import FAILED
from stepfold.cli.output import say, show

if TYPE_CHECKING:
    from stepfold.journal.port import Scan
    from stepfold.journal.scan import KafkaScan
    from stepfold.verify.tail import Tail
    from stepfold.verify.telling import Told

app = typer.Typer(help="The log itself: look at it, check it, copy it.", no_args_is_help=True)

LINES_DEFAULT = 20
RED_KINDS = frozenset({"AttemptFailed", "AttemptTimedOut", "AttemptLost", "RunFailed", "RunParked"})
GREEN_KINDS = frozenset({"StepCompleted", "RunCompleted", "WaitResolved"})


@app.command()
def verify(
    name: AppName,
    more: Annotated[
        list[Path] | None, typer.Argument(metavar="[FILE]...", help="Further files of --from.")
    ] = None,
    files: Annotated[
        list[Path] | None,
        typer.Option("--from", help="Exported files or folders, in place of Kafka."),
    ] = None,
    processes: Annotated[
        int | None, typer.Option(min=1, help="Default: one for each core, if the log is long.")
    ] = None,
    bootstrap_servers: Servers = None,
    as_json: AsJson = False,
) -> None:
    """Check a history against what stepfold promises; 1 if a promise is broken.

    Example: stepfold log verify research
    """
    from stepfold.verify import report
    from stepfold.verify.app import verify_app

    scan: Scan
    if files:
        from stepfold.verify.export import ExportedLog

        scan = ExportedLog(name, [*files, *(more or ())])
    elif more:
        raise typer.BadParameter(f"{more[0]}: to check files, put --from before them")
    else:
        scan = _kafka(bootstrap_servers)
    found, seconds, used = verify_app(scan, name, processes=processes)
    show(
        report.facts(found, seconds=seconds, processes=used),
        report.text(found, seconds=seconds, processes=used),
        as_json=as_json,
    )
    if found.violated:
        raise typer.Exit(FAILED)


@app.command()
def export(
    name: AppName,
    to: Annotated[Path, typer.Option("--to", metavar="FOLDER", help="Is made if need be.")],
    bootstrap_servers: Servers = None,
    as_json: AsJson = False,
) -> None:
    """Copy an app's topics into files. Example: stepfold log export research --to saved"""
    from stepfold.verify.app import history_partitions
    from stepfold.verify.export import export as export_files

    scan = _kafka(bootstrap_servers)
    history_partitions(scan, name)
    written = [str(path) for path in export_files(scan, name, to)]
    show(written, "\n".join(written), as_json=as_json)


@app.command()
def tail(
    name: AppName,
    partition: Annotated[int | None, typer.Option(min=0, help="Only this one.")] = None,
    run: Annotated[
        str | None,
        typer.Option(metavar="RUN", parser=run_id, help="Only this run, from its beginning."),
    ] = None,
    from_start: Annotated[bool, typer.Option("--from-start", help="All records.")] = False,
    lines: Annotated[
        int, typer.Option("--lines", "-n", min=0, help="Last records of each partition.")
    ] = LINES_DEFAULT,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as more come.")] = False,
    bootstrap_servers: Servers = None,
    as_json: AsJson = False,
) -> None:
    """Print the records of a history. Example: stepfold log tail research --run 003-… --follow"""
    from stepfold.verify.tail import Tail

    scan = _kafka(bootstrap_servers)
    everything = from_start or run is not None
    found = Tail(scan, name, partition=partition, run_id=run, lines=None if everything else lines)
    for told in found.told():
        _print(told, as_json)
    if follow:
        say(f"following {found.topic}; Ctrl-C ends it")
        for told in _followed(scan, found):
            _print(told, as_json)


def _kafka(servers: str | None) -> KafkaScan:
    from stepfold.journal.scan import KafkaScan

    return KafkaScan(*kafka_of(servers))


def _followed(scan: KafkaScan, found: Tail) -> Iterator[Told]:
    for record in scan.follow(found.topic, found.positions):
        told = None if record is None else found.tell(record)
        if told is not None:
            yield told


def _print(told: Told, as_json: bool) -> None:
    """A terminal gets colours, anything else plain text."""
    if as_json:
        typer.echo(json.dumps(told.as_json(), default=str))
        return
    colour = None
    if told.kind in RED_KINDS or not told.kind:
        colour = typer.colors.RED
    elif told.kind in GREEN_KINDS:
        colour = typer.colors.GREEN
    elif told.kind == "Claimed":
        colour = typer.colors.CYAN
    typer.secho(told.line(), fg=colour, dim=told.void is not None)
