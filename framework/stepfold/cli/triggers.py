"""Sending, starting and signalling, by Kafka alone: no projection has to run."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Annotated, Any

import typer

from stepfold.cli.connection import AsJson, Servers, kafka_of
from stepfold.cli.exits import FAILED
from stepfold.cli.output import say, show

RunId = Annotated[str, typer.Argument(metavar="RUN")]
Json = Annotated[str, typer.Argument(metavar="JSON")]


def send(
    app: Annotated[str, typer.Argument(metavar="APP")],
    event: Annotated[str, typer.Argument(metavar="EVENT")],
    data: Json = "null",
    id: Annotated[str | None, typer.Option(help="A repeated id starts nothing.")] = None,  # noqa: A002
    bootstrap_servers: Servers = None,
    as_json: AsJson = False,
) -> None:
    """Send an event. Example: stepfold send research agent/run '{"query": "why"}'"""
    from stepfold import Client, Event

    value = _parsed(data)

    async def work(client: Client) -> dict[str, Any]:
        sent: Event[Any] = Event(event, data=value, id=id)
        receipt = await client.send(app, sent)
        return {
            "topic": receipt.topic,
            "partition": receipt.partition,
            "offset": receipt.offset,
        }

    facts = with_client(bootstrap_servers, work)
    show(facts, f"{facts['topic']}:{facts['partition']}:{facts['offset']}", as_json=as_json)


def start(
    app: Annotated[str, typer.Argument(metavar="APP")],
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
            except RunError as error:
                facts["error"] = str(error)
        return facts

    facts = with_client(bootstrap_servers, work)
    text = json.dumps(facts["result"]) if "result" in facts else facts["run_id"]
    show(facts, str(facts.get("error", text)), as_json=as_json)
    if "error" in facts:
        raise typer.Exit(FAILED)


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
