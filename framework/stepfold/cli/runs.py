"""`stepfold runs`: what the projection knows of runs, and asking them to stop or go on."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Annotated, Any

import typer

from stepfold.cli.connection import Address, AsJson, RunId, Servers, api_of
from stepfold.cli.exits import FAILED
from stepfold.cli.missing import GroupWithMissing
from stepfold.cli.output import say, show
from stepfold.cli.triggers import with_client

app = typer.Typer(
    cls=GroupWithMissing,
    help="Runs: lists, traces, events, and requests to them.",
    no_args_is_help=True,
)

Reason = Annotated[str, typer.Option(help="Is recorded.")]

LOOK_S = 0.3
LIST_MAX = 500
PAGE = 500
ENDED_BADLY = ("failed", "cancelled")


@app.command("list")
def list_runs(
    app_: Annotated[str | None, typer.Option("--app", help="Of this app.")] = None,
    workflow: Annotated[str | None, typer.Option(help="Of this workflow.")] = None,
    status: Annotated[list[str] | None, typer.Option(help="In this status; repeatable.")] = None,
    tenant: Annotated[str | None, typer.Option(help="Of this tenant.")] = None,
    step: Annotated[str | None, typer.Option(help="That began this step.")] = None,
    error: Annotated[str | None, typer.Option(help="Whose error holds this text.")] = None,
    since: Annotated[str | None, typer.Option("--from", help="RFC 3339 time.")] = None,
    until: Annotated[str | None, typer.Option("--to", help="RFC 3339 time.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=LIST_MAX)] = 50,
    api: Address = None,
    as_json: AsJson = False,
) -> None:
    """Runs, newest first. Example: stepfold runs list --app research --status failed"""
    query = {
        "app": app_,
        "workflow": workflow,
        "status": status or None,
        "tenant": tenant,
        "step": step,
        "error": error,
        "from": since,
        "to": until,
        "limit": limit,
    }
    runs = api_of(api).get("/api/v1/runs", query)["runs"]
    if runs or as_json:
        show(runs, "\n".join(map(_line, runs)), as_json=as_json)
    else:
        say("no runs")


@app.command("show")
def show_run(run: RunId, api: Address = None, as_json: AsJson = False) -> None:
    """The trace of a run as a tree. Example: stepfold runs show 003-…"""
    from stepfold.cli.api import run_path

    found = api_of(api).get(run_path(run))
    if as_json:
        show(found, "", as_json=True)
    else:
        _print_tree(found)


@app.command()
def watch(
    run: RunId,
    timeout: Annotated[float | None, typer.Option(help="Seconds; 124 after them.")] = None,
    api: Address = None,
    as_json: AsJson = False,
) -> None:
    """Print events as they come, until the run is over. Example: stepfold runs watch 003-…"""
    from stepfold.cli.api import run_path

    there = api_of(api)
    deadline = None if timeout is None else time.monotonic() + timeout
    cursor: int | None = None
    while True:
        found = there.get(run_path(run))
        for event in _events(there, run, cursor):
            cursor = event["offset"]
            show(event, _event_line(event), as_json=as_json)
        if found["ended_at"] is not None:
            break
        if deadline is not None and time.monotonic() > deadline:
            raise TimeoutError(f"after {timeout:g} s the run is {found['status']}; it goes on")
        time.sleep(LOOK_S)
    if found["status"] in ENDED_BADLY:
        raise typer.Exit(FAILED)


@app.command()
def events(
    run: RunId,
    as_of: Annotated[int | None, typer.Option(help="Up to this offset.")] = None,
    api: Address = None,
    as_json: AsJson = False,
) -> None:
    """The events of a run, as the log holds them. Example: stepfold runs events 003-… --json"""
    found = list(_events(api_of(api), run, None, as_of))
    show(found, "\n".join(map(_event_line, found)), as_json=as_json)


@app.command()
def cancel(
    run: RunId, reason: Reason = "", bootstrap_servers: Servers = None, as_json: AsJson = False
) -> None:
    """Ask to cancel a run. Example: stepfold runs cancel 003-… --reason 'wrong model'"""
    _ask(run, "cancel", reason, bootstrap_servers, as_json)


@app.command()
def pause(
    run: RunId, reason: Reason = "", bootstrap_servers: Servers = None, as_json: AsJson = False
) -> None:
    """Start no further step of a run. Example: stepfold runs pause 003-…"""
    _ask(run, "pause", reason, bootstrap_servers, as_json)


@app.command()
def resume(
    run: RunId, reason: Reason = "", bootstrap_servers: Servers = None, as_json: AsJson = False
) -> None:
    """Go on with a paused or parked run. Example: stepfold runs resume 003-…"""
    _ask(run, "resume", reason, bootstrap_servers, as_json)


def _ask(run: str, verb: str, reason: str, servers: str | None, as_json: bool) -> None:
    async def work(client: Any) -> Any:
        return await getattr(client, verb)(run, reason)

    placed = with_client(servers, work)
    position = f"{placed.topic}/{placed.partition}/{placed.offset}"
    show({"run_id": run, "position": position}, f"{verb} requested", as_json=as_json)


def _events(
    there: Any, run: str, cursor: int | None, as_of: int | None = None
) -> Iterator[dict[str, Any]]:
    from stepfold.cli.api import run_path

    while True:
        query = {"cursor": cursor, "as_of": as_of, "limit": PAGE}
        page = there.get(run_path(run, "events"), query)
        yield from page["events"]
        cursor = page["next_cursor"]
        if cursor is None:
            return


def _line(run: dict[str, Any]) -> str:
    error: dict[str, str] | None = run["error"]
    note: str = run["stalled"] or (error["message"] if error is not None else "")
    text = f"{run['id']}  {run['status']:<9}  {run['accepted_at']}  {run['app']}/{run['workflow']}"
    return f"{text}  {' '.join(note.split())[:80]}".rstrip()


def _event_line(event: dict[str, Any]) -> str:
    fields = event["fields"]
    about = " ".join(
        str(fields[name]) for name in ("step", "attempt", "timer_id", "wait_id") if name in fields
    )
    error = f"{fields['error_type']}: {fields['error_message']}" if "error_type" in fields else ""
    return f"{event['offset']:>8}  {event['at']}  {event['kind']:<16}  {about}  {error}".rstrip()


def _print_tree(run: dict[str, Any]) -> None:
    from rich.console import Console

    from stepfold.cli.trace_tree import trace_tree

    Console().print(trace_tree(run))
    if run["stalled"]:
        say(f"stalled: {run['stalled']}")
