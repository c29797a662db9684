"""`stepfold topics`: creates an app's topics, or compares them with the catalog."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from stepfold.cli.connection import ANSWER_TIMEOUT_S, AppName, AsJson, Servers, admin_of
from stepfold.cli.exits import CONFLICT
from stepfold.cli.output import say, show
from stepfold_topics.catalog import PARTITIONS_DEFAULT, REPLICATION_DEFAULT, TopicPlan, topics_of

if TYPE_CHECKING:
    from confluent_kafka.admin import AdminClient

app = typer.Typer(help="The topics of an app.", no_args_is_help=True)

PARTITIONS_MAX = 1_000
"""More than a worker group could sensibly share; a typing error is caught here."""
REPLICATION_MAX = 9

Partitions = Annotated[
    int | None,
    typer.Option(
        min=1,
        max=PARTITIONS_MAX,
        help=f"Shards, fixed for ever; default: as it has, {PARTITIONS_DEFAULT} if it is new.",
    ),
]
Replication = Annotated[
    int | None,
    typer.Option(min=1, max=REPLICATION_MAX, help="Default: 3, or 1 on a single broker."),
]
Format = Literal["cli", "strimzi", "json"]


@app.command()
def apply(
    name: AppName,
    partitions: Partitions = None,
    replication: Replication = None,
    bootstrap_servers: Servers = None,
    as_json: AsJson = False,
) -> None:
    """Create or alter an app's topics. Example: stepfold topics apply research"""
    from stepfold_topics import provision

    admin, plans = _plans(name, partitions, replication, bootstrap_servers)
    done = [difference.once_applied for difference in provision.apply(admin, plans)]
    show(done, "\n".join(done) or "nothing to do", as_json=as_json)


@app.command()
def diff(
    name: AppName,
    partitions: Partitions = None,
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
    name: AppName,
    form: Annotated[Format, typer.Option("--format")] = "cli",
    partitions: Partitions = None,
    replication: Replication = None,
    as_json: AsJson = False,
) -> None:
    """The topics as commands or manifests. Example: stepfold topics export research"""
    from stepfold_topics import export as exports

    plans = topics_of(
        name,
        partitions=partitions or PARTITIONS_DEFAULT,
        replication=replication or REPLICATION_DEFAULT,
    )
    typer.echo(exports.export(plans, "json" if as_json else form), nl=False)


def _plans(
    name: str, partitions: int | None, replication: int | None, servers: str | None
) -> tuple[AdminClient, Sequence[TopicPlan]]:
    from stepfold_topics.admin import describe_topics

    admin = admin_of(servers)
    if replication is None:
        brokers = len(admin.list_topics(timeout=ANSWER_TIMEOUT_S).brokers)
        replication = REPLICATION_DEFAULT if brokers >= REPLICATION_DEFAULT else 1
        if replication == 1:
            say("a single broker: topics get one replica, run workers with --unsafe-dev")
    if partitions is None:
        plan = topics_of(name)
        found = describe_topics(admin, [topic.name for topic in plan])
        counts = [found[topic.name].partitions for topic in plan if topic.name in found]
        partitions = counts[0] if counts else PARTITIONS_DEFAULT
    return admin, topics_of(name, partitions=partitions, replication=replication)
