"""Which Kafka and which HTTP API a command speaks to: the flag's, else the settings'."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stepfold.cli.output import say

if TYPE_CHECKING:
    from stepfold.cli.api import Api

Servers = Annotated[
    str | None,
    typer.Option("--bootstrap-servers", help="Kafka's address; default: settings, then local."),
]
Address = Annotated[
    str | None, typer.Option("--api", help="The HTTP API's address; default: settings.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def kafka_of(servers: str | None) -> tuple[str, dict[str, str]]:
    """Bootstrap servers, and further librdkafka settings."""
    from stepfold.client.client import default_config, default_servers

    return servers or default_servers(), default_config()


def api_of(address: str | None) -> Api:
    from stepfold.cli.api import Api
    from stepfold.settings import settings

    return Api(address or settings().api)


@contextlib.asynccontextmanager
async def stage_kafka(
    state_dir: Path, servers: str | None
) -> AsyncGenerator[tuple[str, dict[str, str]]]:
    """The user's own Kafka where one is named; else one of ours, stopped again at the end."""
    from stepfold.local import LocalKafka
    from stepfold.settings import settings

    known = settings().kafka
    named = servers or known.bootstrap_servers
    if named:
        say(f"using Kafka at {named}")
        yield named, known.config
        return
    kafka = LocalKafka(state_dir)
    info = await asyncio.to_thread(kafka.start, say=say)
    how = f"ready in {info.ready_s:.1f} s" if info.started else "running already"
    say(f"Apache Kafka is {how}, at {info.bootstrap_servers}")
    try:
        yield info.bootstrap_servers, {}
    finally:
        if info.started:
            await asyncio.to_thread(kafka.stop)
