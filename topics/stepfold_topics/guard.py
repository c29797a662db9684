"""Refuses topics under which history could be lost (rule R2 of the protocol).

The check is a pure function over what was described, so that every refusal is a line
in a table of tests.
"""

from __future__ import annotations

from dataclasses import dataclass

from confluent_kafka.admin import AdminClient

from stepfold_topics.admin import DescribedTopic, describe_topics
from stepfold_topics.catalog import IN_SYNC_MIN, REPLICATION_DEFAULT
from stepfold_topics.errors import MissingTopicsError, TopicsUnreachableError, UnsafeSettingError

__all__ = [
    "Described",
    "DescribedTopic",
    "MissingTopicsError",
    "TopicsUnreachableError",
    "UnsafeSettingError",
    "check",
    "describe",
]

DLQ_HEADERS_BYTES = 16_384
"""What a dlq adds to a record: where it came from, and why it is there."""
EVENT_BYTES_MIN = 1_000_000
"""A history that takes less refuses events the engine takes for possible, and stops."""

SOURCE_SETTINGS = {
    "cleanup.policy": "delete",
    "message.timestamp.type": "LogAppendTime",
    "unclean.leader.election.enable": "false",
}
HISTORY_SETTINGS = {**SOURCE_SETTINGS, "retention.ms": "-1", "retention.bytes": "-1"}
DLQ_SETTINGS = {"cleanup.policy": "delete"}


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
    remedy = f"run `stepfold topics apply {_app(described)}`, or set it yourself"
    for topic, wanted in (
        (described.history, HISTORY_SETTINGS),
        (described.control, SOURCE_SETTINGS),
        (described.inbox, SOURCE_SETTINGS),
        (described.dlq, DLQ_SETTINGS),
    ):
        for setting, value in wanted.items():
            is_value = topic.config.get(setting, "")
            if is_value != value:
                raise UnsafeSettingError(topic.name, setting, is_value, value, remedy)
    _check_at_least(described.history, "max.message.bytes", EVENT_BYTES_MIN, remedy)
    _check_at_least(described.dlq, "max.message.bytes", _copy_bytes_max(described), remedy)
    if not unsafe_dev:
        _check_replicas(described)


def describe(admin: AdminClient, app: str) -> Described:
    """Blocks for two requests: call it in a thread. Raises TopicsUnreachableError."""
    names = [f"{app}.{suffix}" for suffix in ("inbox", "control", "history", "inbox.dlq")]
    found = describe_topics(admin, names)
    missing = [name for name in names if name not in found]
    if missing:
        raise MissingTopicsError(app, missing)
    inbox, control, history, dlq = (found[name] for name in names)
    return Described(inbox=inbox, control=control, history=history, dlq=dlq)


def _check_counts(described: Described) -> None:
    for topic in (described.inbox, described.control):
        if topic.partitions != described.history.partitions:
            raise UnsafeSettingError(
                topic.name,
                "partitions",
                str(topic.partitions),
                str(described.history.partitions),
                f"as {described.history.name} has: partition p of each is one shard, and keys "
                "name their partition; make a new app with equal counts",
            )


def _copy_bytes_max(described: Described) -> int:
    """A record that its dlq does not take keeps back all that follow it."""
    limits = (
        source.config.get("max.message.bytes", "")
        for source in (described.inbox, described.control)
    )
    return max(int(limit) for limit in limits if limit.isdecimal()) + DLQ_HEADERS_BYTES


def _check_replicas(described: Described) -> None:
    for topic in (described.history, described.control, described.inbox):
        remedy = "one failing broker could lose records; on one development broker use --unsafe-dev"
        if topic.replication < REPLICATION_DEFAULT:
            raise UnsafeSettingError(
                topic.name,
                "replication",
                str(topic.replication),
                f"at least {REPLICATION_DEFAULT}",
                remedy,
            )
        _check_at_least(topic, "min.insync.replicas", IN_SYNC_MIN, remedy)


def _check_at_least(topic: DescribedTopic, setting: str, least: int, remedy: str) -> None:
    value = topic.config.get(setting, "")
    if not value.isdecimal() or int(value) < least:
        raise UnsafeSettingError(topic.name, setting, value, f"at least {least}", remedy)


def _app(described: Described) -> str:
    return described.inbox.name.removesuffix(".inbox")
