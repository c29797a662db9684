"""`stepfold topics`: creates an app's topics, or compares them with the catalog."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from stepfold.cli.connection import AsJson, Servers, kafka_of
from stepfold.cli.exits import CONFLICT
from stepfold.cli.output import say, show
from stepfold.core.errors import KafkaError
from stepfold_topics.catalog import PARTITIONS_DEFAULT, REPLICATION_DEFAULT, TopicPlan, topics_of

if TYPE_CHECKING:
    from confluent_kafka.admin import AdminClient

app = typer.Typer(help="The topics of an app.", no_args_is_help=True)

Partitions = Annotated[int, typer.Option(help="Shards of the app; fixed for ever.")]
Replication = Annotated[int | None, typer.Option(help="Default: 3, or 1 on a single broker.")]
Format = Literal["cli", "strimzi", "json"]


@app.command()
def apply(
    name: Annotated[str, typer.Argument(metavar="APP")],
    partitions: Partitions = PARTITIONS_DEFAULT,
    replication: Replication = None,
    bootstrap_servers: Servers = None,
    as_json: AsJson = False,
) -> None:
    """Create or alter an app's topics. Example: stepfold topics apply research"""
    from stepfold_topics import provision

    admin, plans = _plans(name, partitions, replication, bootstrap_servers)
    done = provision.apply(admin, plans)
    show([str(d) for d in done], "\n".join(map(str, done)) or "nothing to do", as_json=as_json)


@app.command()
def diff(
    name: Annotated[str, typer.Argument(metavar="APP")],
    partitions: Partitions = PARTITIONS_DEFAULT,
    replication: Replication = None,
    bootstrap_servers: Servers = None,
    as_json: AsJson = False,
) -> None:
    """What apply would do; exits with 6 if anything. Example: stepfold topics diff research"""
    from stepfold_topics import provision

    admin, plans = _plans(name, partitions, replication, bootstrap_servers)
    found = provision.compare(admin, plans)
    show([str(d) for d in found], "\n".join(map(str, found)) or "no difference", as_json=as_json)
    if found:
        raise typer.Exit(CONFLICT)


@app.command()
def export(
    name: Annotated[str, typer.Argument(metavar="APP")],
    form: Annotated[Format, typer.Option("--format")] = "cli",
    partitions: Partitions = PARTITIONS_DEFAULT,
    replication: Replication = None,
) -> None:
    """The topics as commands or manifests. Example: stepfold topics export research"""
    from stepfold_topics import export as exports

    plans = topics_of(name, partitions=partitions, replication=replication or REPLICATION_DEFAULT)
    typer.echo(exports.export(plans, form))


def _plans(
    name: str, partitions: int, replication: int | None, servers: str | None
) -> tuple[AdminClient, Sequence[TopicPlan]]:
    from confluent_kafka import KafkaException
    from confluent_kafka.admin import AdminClient

    from stepfold.journal.settings import admin_config

    servers, config = kafka_of(servers)
    admin = AdminClient(admin_config(servers, config))
    if replication is None:
        try:
            brokers = len(admin.list_topics(timeout=10.0).brokers)
        except KafkaException as error:
            raise KafkaError(
                f"Kafka at {servers} does not answer: {error.args[0].str()}; "
                "start one with `stepfold kafka start`, or name yours with --bootstrap-servers"
            ) from error
        replication = REPLICATION_DEFAULT if brokers >= REPLICATION_DEFAULT else 1
        if replication == 1:
            say("a single broker: topics get one replica, run workers with --unsafe-dev")
    return admin, topics_of(name, partitions=partitions, replication=replication)
