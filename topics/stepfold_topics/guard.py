"""Refuses topics under which history could be lost (rule R2 of the protocol).

The check is a pure function over what was described, so that every refusal is a line
in a table of tests.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, TypeVar

from confluent_kafka import KafkaException, TopicCollection
from confluent_kafka.admin import AdminClient, ConfigResource, ResourceType

Answer = TypeVar("Answer")

REQUEST_TIMEOUT_S = 15.0
REPLICATION_MIN = 3
IN_SYNC_MIN = 2

HISTORY_SETTINGS = {
    "cleanup.policy": "delete",
    "retention.ms": "-1",
    "retention.bytes": "-1",
    "message.timestamp.type": "LogAppendTime",
    "unclean.leader.election.enable": "false",
}
CONTROL_SETTINGS = {
    "cleanup.policy": "delete",
    "message.timestamp.type": "LogAppendTime",
    "unclean.leader.election.enable": "false",
}


class TopicsUnreachableError(Exception):
    """The topics are not there, or Kafka does not tell about them."""


class UnsafeSettingError(Exception):
    """A topic is set in a way that could lose history."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DescribedTopic:
    name: str
    topic_id: str
    partitions: int
    replication: int
    config: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Described:
    inbox: DescribedTopic
    control: DescribedTopic
    history: DescribedTopic
    dlq: DescribedTopic


def check(described: Described, *, unsafe_dev: bool = False) -> None:
    """Raises UnsafeSettingError that names the topic, the setting and both values.

    unsafe_dev relaxes the number of replicas for a single broker, and nothing else.
    """
    _check_counts(described)
    for topic, wanted in (
        (described.history, HISTORY_SETTINGS),
        (described.control, CONTROL_SETTINGS),
    ):
        for setting, value in wanted.items():
            is_value = topic.config.get(setting, "")
            if is_value != value:
                raise UnsafeSettingError(
                    f"topic {topic.name} has {setting}={is_value}, and must have {value}; "
                    f"run `stepfold topics apply {_app(described)}`, or set it yourself"
                )
    if not unsafe_dev:
        _check_replicas(described)


def describe(admin: AdminClient, app: str) -> Described:
    """Blocks for up to two requests; call it in a thread. Raises TopicsUnreachableError."""
    names = [f"{app}.inbox", f"{app}.control", f"{app}.history", f"{app}.inbox.dlq"]
    asked = admin.describe_topics(TopicCollection(names), request_timeout=REQUEST_TIMEOUT_S)
    topics = {name: _result(asked[name], name, app) for name in names}
    resources = [ConfigResource(ResourceType.TOPIC, name) for name in names]
    configs = admin.describe_configs(resources, request_timeout=REQUEST_TIMEOUT_S)
    found: list[DescribedTopic] = []
    for resource in resources:
        entries: Mapping[str, Any] = _result(configs[resource], resource.name, app)
        topic = topics[resource.name]
        found.append(
            DescribedTopic(
                name=resource.name,
                topic_id=str(topic.topic_id),
                partitions=len(topic.partitions),
                replication=len(topic.partitions[0].replicas),
                config={name: str(entry.value) for name, entry in entries.items()},
            )
        )
    inbox, control, history, dlq = found
    return Described(inbox=inbox, control=control, history=history, dlq=dlq)


def _check_counts(described: Described) -> None:
    counts = {
        topic.name: topic.partitions
        for topic in (described.inbox, described.control, described.history)
    }
    if len(set(counts.values())) != 1:
        listed = ", ".join(f"{name} has {count}" for name, count in counts.items())
        raise UnsafeSettingError(
            f"the partition counts of an app's topics must be equal: {listed}; "
            "partitions were added to one of them, which breaks the placing of keys"
        )


def _check_replicas(described: Described) -> None:
    for topic in (described.inbox, described.control, described.history):
        in_sync = int(topic.config.get("min.insync.replicas", "1"))
        if topic.replication < REPLICATION_MIN or in_sync < IN_SYNC_MIN:
            raise UnsafeSettingError(
                f"topic {topic.name} has {topic.replication} replicas and "
                f"min.insync.replicas={in_sync}, and must have {REPLICATION_MIN} and "
                f"{IN_SYNC_MIN}: one failing broker could lose events; on a single "
                "development broker pass --unsafe-dev"
            )


def _result(future: Future[Answer], name: str, app: str) -> Answer:
    try:
        return future.result(REQUEST_TIMEOUT_S * 2)
    except (KafkaException, TimeoutError) as error:
        reason = error.args[0].str() if error.args and hasattr(error.args[0], "str") else str(error)
        raise TopicsUnreachableError(
            f"topic {name} cannot be described: {reason or 'no answer'}; "
            f"check that Kafka runs, and create the topics with `stepfold topics apply {app}`"
        ) from error


def _app(described: Described) -> str:
    return described.inbox.name.removesuffix(".inbox")
