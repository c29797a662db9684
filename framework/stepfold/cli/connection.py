"""Which Kafka and which HTTP API a command speaks to: the flag's, else the settings'."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Generator
from pathlib import Path
from signal import SIGHUP, SIGTERM
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stepfold.cli.output import say
from stepfold.core.errors import ConfigurationError

if TYPE_CHECKING:
    from confluent_kafka.admin import AdminClient

    from stepfold.cli.api import Api

ANSWER_TIMEOUT_S = 5.0
"""For Kafka's first answer: a broker that is just starting needs two or three."""


def app_name(text: str) -> str:
    from stepfold.sdk.app import APP_NAME

    if APP_NAME.fullmatch(text) is None:
        raise typer.BadParameter(
            f"{text!r} is no app's name: small letters, digits and dashes, a letter first"
        )
    return text


def run_id(text: str) -> str:
    from stepfold.core.ids import parse_run_id

    try:
        parse_run_id(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    return text


Servers = Annotated[
    str | None,
    typer.Option("--bootstrap-servers", help="Kafka's address; default: settings, then local."),
]
Address = Annotated[
    str | None, typer.Option("--api", help="The HTTP API's address; default: settings.")
]
AppName = Annotated[str, typer.Argument(metavar="APP", parser=app_name)]
RunId = Annotated[str, typer.Argument(metavar="RUN", parser=run_id)]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def kafka_of(servers: str | None) -> tuple[str, dict[str, str]]:
    """Bootstrap servers, and further librdkafka settings."""
    from stepfold.client.client import default_config, default_servers

    config = default_config()
    if config:
        _check_config(config)
    return servers or default_servers(), config


def _check_config(config: dict[str, str]) -> None:
    """Raises ConfigurationError for what the Kafka client does not take."""
    from confluent_kafka import KafkaException, Producer

    from stepfold.client.errors import code_of

    try:
        Producer({"log_level": 0, **config})
    except KafkaException as error:
        raise ConfigurationError(
            f"the Kafka client does not take kafka.config: {code_of(error).str()}; see where each "
            "comes from with: stepfold config show --origin"
        ) from error


def admin_of(servers: str | None) -> AdminClient:
    """Of a Kafka that has answered. Raises KafkaError."""
    from confluent_kafka import KafkaException
    from confluent_kafka.admin import AdminClient

    from stepfold.client.errors import code_of, kafka_error
    from stepfold.journal.settings import admin_config

    address, config = kafka_of(servers)
    said: list[str] = []

    def note(error: Any) -> None:
        said.append(error.str())

    settings: dict[str, Any] = {**admin_config(address, config), "log_level": 0, "error_cb": note}
    admin = AdminClient(settings)
    try:
        admin.list_topics(timeout=ANSWER_TIMEOUT_S)
    except KafkaException as error:
        admin.poll(0)
        why = said[0] if said else None
        raise kafka_error("list topics", address, code_of(error), why) from error
    return admin


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
