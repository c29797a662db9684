"""Kafka's admin requests about topics, with types, and with deadlines.

Everything here blocks: call it in a thread. Nothing else in this package speaks to
Kafka, so the rules about topics stay functions of plain data.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, cast

import confluent_kafka.admin
from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import AdminClient

from stepfold_topics.catalog import TopicPlan
from stepfold_topics.errors import ProvisionError, TopicsUnreachableError

REQUEST_TIMEOUT_S = 15.0
ANSWER_TIMEOUT_S = 2 * REQUEST_TIMEOUT_S
"""For futures, should the client not keep its own timeout."""

# Its stubs neither export these names nor say what the futures hold.
_kafka = cast("Any", confluent_kafka.admin)


@dataclass(frozen=True, slots=True, kw_only=True)
class DescribedTopic:
    name: str
    topic_id: str
    partitions: int
    replication: int  # of the partition that has the fewest replicas
    config: Mapping[str, str]


def describe_topics(admin: AdminClient, names: Sequence[str]) -> dict[str, DescribedTopic]:
    """Those that exist, by name. Raises TopicsUnreachableError."""
    client = cast("Any", admin)
    asked = client.describe_topics(TopicCollection([*names]), request_timeout=REQUEST_TIMEOUT_S)
    topics: dict[str, Any] = {}
    for name in names:
        topic = _description(asked[name], name)
        if topic is not None:
            topics[name] = topic
    if not topics:
        return {}
    resources = [_kafka.ConfigResource(_kafka.ResourceType.TOPIC, name) for name in topics]
    configs = client.describe_configs(resources, request_timeout=REQUEST_TIMEOUT_S)
    found: dict[str, DescribedTopic] = {}
    for name, resource in zip(topics, resources, strict=True):
        entries = _description(configs[resource], name)
        if entries is not None:
            found[name] = _described(name, topics[name], entries)
    return found


def create_topics(admin: AdminClient, plans: Sequence[TopicPlan]) -> None:
    """A topic that somebody else has made meanwhile is left as it is. Raises ProvisionError."""
    if not plans:
        return
    topics = [
        _kafka.NewTopic(
            plan.name,
            num_partitions=plan.partitions,
            replication_factor=plan.replication,
            config=plan.config,
        )
        for plan in plans
    ]
    client = cast("Any", admin)
    asked = client.create_topics(
        topics, operation_timeout=REQUEST_TIMEOUT_S, request_timeout=REQUEST_TIMEOUT_S
    )
    for name, future in asked.items():
        try:
            future.result(ANSWER_TIMEOUT_S)
        except (KafkaException, TimeoutError) as error:
            if _code(error) != KafkaError.TOPIC_ALREADY_EXISTS:
                raise ProvisionError(_refusal(name, error)) from error


def set_config(admin: AdminClient, topic: str, config: Mapping[str, str]) -> None:
    """Set these and leave every other setting. Raises ProvisionError."""
    entries = [
        _kafka.ConfigEntry(name, value, incremental_operation=_kafka.AlterConfigOpType.SET)
        for name, value in config.items()
    ]
    resource = _kafka.ConfigResource(_kafka.ResourceType.TOPIC, topic, incremental_configs=entries)
    client = cast("Any", admin)
    asked = client.incremental_alter_configs([resource], request_timeout=REQUEST_TIMEOUT_S)
    try:
        asked[resource].result(ANSWER_TIMEOUT_S)
    except (KafkaException, TimeoutError) as error:
        changes = ", ".join(f"{name}={value}" for name, value in config.items())
        raise ProvisionError(
            f"topic {topic} cannot be set to {changes}: {_reason(error)}; "
            "look for an ACL or a policy of the cluster that forbids it"
        ) from error


def _description(future: Future[Any], name: str) -> Any:
    """None: there is no such topic."""
    try:
        return future.result(ANSWER_TIMEOUT_S)
    except (KafkaException, TimeoutError) as error:
        if _code(error) == KafkaError.UNKNOWN_TOPIC_OR_PART:
            return None
        raise TopicsUnreachableError(
            f"topic {name} cannot be described: {_reason(error)}; check that Kafka runs, and "
            "that this user may describe topics and their configs"
        ) from error


def _described(name: str, topic: Any, entries: Mapping[str, Any]) -> DescribedTopic:
    return DescribedTopic(
        name=name,
        topic_id=str(topic.topic_id),
        partitions=len(topic.partitions),
        replication=min((len(each.replicas) for each in topic.partitions), default=0),
        config={setting: str(entry.value) for setting, entry in entries.items()},
    )


def _refusal(topic: str, error: Exception) -> str:
    said = f"topic {topic} cannot be created: {_reason(error)}"
    if _code(error) == KafkaError.INVALID_REPLICATION_FACTOR:
        return f"{said}; add brokers, or, for development only, ask for fewer replicas"
    return f"{said}; look for an ACL or a policy of the cluster that forbids it"


def _code(error: Exception) -> int | None:
    cause = error.args[0] if error.args else None
    return cause.code() if isinstance(cause, KafkaError) else None


def _reason(error: Exception) -> str:
    cause = error.args[0] if error.args else None
    return cause.str() if isinstance(cause, KafkaError) else str(error) or "no answer"
