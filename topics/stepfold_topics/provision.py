"""Creates an app's topics, and compares those that are there with the catalog.

Settings that can be changed safely are changed. A partition count is never changed: it
would move keys to other shards, so a difference is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewTopic,
    ResourceType,
)

from stepfold_topics.catalog import TopicPlan

REQUEST_TIMEOUT_S = 15.0


class ProvisionError(Exception):
    """Kafka refused, or did not answer."""


class RekeyError(ProvisionError):
    """The change asked for would move keys to other partitions."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    topic: str
    kind: Literal["missing", "partitions", "setting", "replication"]
    name: str
    is_value: str
    wanted: str

    def __str__(self) -> str:
        if self.kind == "missing":
            return f"{self.topic}: missing"
        return f"{self.topic}: {self.name} is {self.is_value}, wanted {self.wanted}"


def compare(admin: AdminClient, plans: Sequence[TopicPlan]) -> list[Difference]:
    """What `apply` would change or refuse; blocks, call it in a thread."""
    try:
        listed = admin.list_topics(timeout=REQUEST_TIMEOUT_S).topics
    except KafkaException as error:
        raise ProvisionError(f"topics cannot be listed: {error.args[0].str()}") from error
    found: list[Difference] = []
    there = [plan for plan in plans if plan.name in listed]
    for plan in plans:
        if plan.name not in listed:
            found.append(_difference(plan, "missing", "", "", ""))
            continue
        partitions = listed[plan.name].partitions
        if len(partitions) != plan.partitions:
            found.append(
                _difference(
                    plan, "partitions", "partitions", str(len(partitions)), str(plan.partitions)
                )
            )
        replicas = len(partitions[0].replicas)
        if replicas < plan.replication:
            found.append(
                _difference(
                    plan, "replication", "replication", str(replicas), str(plan.replication)
                )
            )
    return found + _setting_differences(admin, there)


def apply(admin: AdminClient, plans: Sequence[TopicPlan]) -> list[Difference]:
    """Create and alter; returns what was different. Raises RekeyError before any change."""
    differences = compare(admin, plans)
    for difference in differences:
        if difference.kind == "partitions":
            raise RekeyError(
                f"{difference}; the number of partitions cannot be changed, because keys and run "
                "ids name theirs; keep the number, or make a new app"
            )
    _create(
        admin,
        [p for p in plans if any(d.topic == p.name for d in differences if d.kind == "missing")],
    )
    _alter(admin, [d for d in differences if d.kind == "setting"])
    return differences


def _create(admin: AdminClient, plans: Sequence[TopicPlan]) -> None:
    if not plans:
        return
    topics = [
        NewTopic(
            plan.name,
            num_partitions=plan.partitions,
            replication_factor=plan.replication,
            config=dict(plan.config),
        )
        for plan in plans
    ]
    for name, future in admin.create_topics(topics, operation_timeout=REQUEST_TIMEOUT_S).items():
        try:
            future.result(REQUEST_TIMEOUT_S * 2)
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise ProvisionError(
                    f"topic {name} cannot be created: {error.args[0].str()}"
                ) from error


def _alter(admin: AdminClient, differences: Sequence[Difference]) -> None:
    for difference in differences:
        entry = ConfigEntry(
            difference.name, difference.wanted, incremental_operation=AlterConfigOpType.SET
        )
        resource = ConfigResource(ResourceType.TOPIC, difference.topic, incremental_configs=[entry])
        for future in admin.incremental_alter_configs([resource]).values():
            try:
                future.result(REQUEST_TIMEOUT_S)
            except KafkaException as error:
                raise ProvisionError(
                    f"{difference} cannot be changed: {error.args[0].str()}"
                ) from error


def _setting_differences(admin: AdminClient, plans: Sequence[TopicPlan]) -> list[Difference]:
    if not plans:
        return []
    resources = {ConfigResource(ResourceType.TOPIC, plan.name): plan for plan in plans}
    found: list[Difference] = []
    for resource, future in admin.describe_configs(list(resources)).items():
        plan = resources[resource]
        entries = future.result(REQUEST_TIMEOUT_S)
        for name, wanted in plan.config.items():
            value = str(entries[name].value)
            if value != wanted:
                found.append(_difference(plan, "setting", name, value, wanted))
    return found


def _difference(
    plan: TopicPlan,
    kind: Literal["missing", "partitions", "setting", "replication"],
    name: str,
    is_value: str,
    wanted: str,
) -> Difference:
    return Difference(topic=plan.name, kind=kind, name=name, is_value=is_value, wanted=wanted)
