"""Which Kafka and which HTTP API a command speaks to: the flag's, else the settings'."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Generator
from pathlib import Path
from signal import SIGHUP, SIGTERM
from types import FrameType
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


@contextlib.contextmanager
def stage_kafka(state_dir: Path, servers: str | None) -> Generator[tuple[str, dict[str, str]]]:
    """The user's own Kafka where one is named; else one of ours, stopped again at the end.

    Blocks, in the main thread: a Ctrl-C in it has its effect at once.
    """
    from stepfold.settings import settings

    known = settings().kafka
    named = servers or known.bootstrap_servers
    if named:
        say(f"using Kafka at {named}")
        yield named, known.config
        return
    from stepfold.local import LocalKafka

    kafka = LocalKafka(state_dir)
    started = False
    try:
        info = kafka.start(say=say)
        started = info.started
        how = f"ready in {info.ready_s:.1f} s" if started else "running already"
        say(f"Apache Kafka is {how}, at {info.bootstrap_servers}")
        yield info.bootstrap_servers, {}
    finally:
        if started:
            kafka.stop(say)


@contextlib.contextmanager
def ended_by_any_signal() -> Generator[None]:
    """Have SIGTERM and a closed terminal end what goes on in the way that Ctrl-C does."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        signal.raise_signal(signal.SIGINT)

    before = {number: signal.signal(number, interrupt) for number in (SIGTERM, SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
