"""Sending, starting and signalling, by Kafka alone: no projection has to run."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Annotated, Any

import typer

from stepfold.cli.connection import AppName, AsJson, RunId, Servers, kafka_of
from stepfold.cli.exits import OK, exit_code_of
from stepfold.cli.output import say, show

Json = Annotated[str, typer.Argument(metavar="JSON")]


def send(
    app: AppName,
    event: Annotated[str, typer.Argument(metavar="EVENT")],
    data: Json = "null",
    id: Annotated[str | None, typer.Option(help="A repeated id starts nothing.")] = None,  # noqa: A002
    bootstrap_servers: Servers = None,
    as_json: AsJson = False,
) -> None:
    """Send an event. Example: stepfold send research agent/run '{"query": "why"}'"""
    from pydantic import ValidationError

    from stepfold import Client, Event

    try:
        sent: Event[Any] = Event(event, data=_parsed(data), id=id)
    except ValidationError as error:
        first = error.errors()[0]
        what = ".".join(map(str, first["loc"]))
        raise typer.BadParameter(f"the event's {what}: {first['msg']}") from error

    async def work(client: Client) -> dict[str, Any]:
        receipt = await client.send(app, sent)
        return {
            "topic": receipt.topic,
            "partition": receipt.partition,
            "offset": receipt.offset,
        }

    facts = with_client(bootstrap_servers, work)
    show(facts, f"{facts['topic']}:{facts['partition']}:{facts['offset']}", as_json=as_json)


def start(
    app: AppName,
    workflow: Annotated[str, typer.Argument(metavar="WORKFLOW")],
    data: Json = "null",
    wait: Annotated[bool, typer.Option(help="Wait for the result; 1 when it failed.")] = False,
    timeout: Annotated[float | None, typer.Option(help="Seconds to wait; 124 after.")] = None,
    idempotency_key: Annotated[str | None, typer.Option(help="Names the start.")] = None,
    bootstrap_servers: Servers = None,
    as_json: AsJson = False,
) -> None:
    """Start a run. Example: stepfold start research agent '{"query": "why"}' --wait"""
    from stepfold import Client
    from stepfold.core.errors import RunError

    value = _parsed(data)

    async def work(client: Client) -> dict[str, Any]:
        handle = await client.start(app, workflow, value, idempotency_key=idempotency_key)
        facts: dict[str, Any] = {"run_id": handle.id}
        if wait:
            say(f"run {handle.id}")
            try:
                facts["result"] = await handle.result(timeout)
            except (RunError, TimeoutError) as error:
                facts["error"] = _why(error, handle.id, timeout)
                facts["exit_code"] = exit_code_of(error)
        return facts

    facts = with_client(bootstrap_servers, work)
    code = facts.pop("exit_code", OK)
    if "error" in facts and not as_json:
        say(f"stepfold: {facts['error']}")
    else:
        text = json.dumps(facts["result"]) if "result" in facts else facts["run_id"]
        show(facts, text, as_json=as_json)
    raise typer.Exit(code)


def _why(error: Exception, run_id: str, timeout: float | None) -> str:
    if not isinstance(error, TimeoutError):
        return str(error)
    return (
        f"run {run_id} did not end within {timeout or 0:g} s and goes on; "
        f"see it with: stepfold runs show {run_id}"
    )


def signal(
    run: RunId,
    name: Annotated[str, typer.Argument(metavar="NAME")],
    payload: Json = "null",
    bootstrap_servers: Servers = None,
    as_json: AsJson = False,
) -> None:
    """Send a run a signal. Example: stepfold signal 003-… approval true"""
    from stepfold import Client

    value = _parsed(payload)

    async def work(client: Client) -> None:
        await client.signal(run, name, value)

    with_client(bootstrap_servers, work)
    show({"run_id": run, "signal": name}, "sent", as_json=as_json)


def with_client(servers: str | None, work: Callable[[Any], Awaitable[Any]]) -> Any:
    from stepfold import Client

    async def main() -> Any:
        address, config = kafka_of(servers)
        async with Client(address, config=config) as client:
            return await work(client)

    return asyncio.run(main())


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise typer.BadParameter(f"not JSON: {error}; quote it for the shell: '{{...}}'") from error
