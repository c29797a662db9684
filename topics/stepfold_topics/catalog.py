"""The topics of an app, and why they are set as they are.

inbox, control and history have the same number of partitions: partition p of each is
one shard. The number is fixed when the topics are made, because run ids and keys name
their partition.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

PARTITIONS_DEFAULT = 8
REPLICATION_DEFAULT = 3
IN_SYNC_MIN = 2
DAY_MS = 86_400_000
SOURCE_RETENTION_MS = 30 * DAY_MS
SOURCE_RECORD_BYTES_MAX = 1024 * 1024
EVENT_RECORD_BYTES_MAX = 2 * 1024 * 1024


class Setting(NamedTuple):
    """One topic setting, as Kafka spells it."""

    name: str
    value: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicPlan:
    """One topic as it should be. `key` says what records are keyed by."""

    name: str
    partitions: int
    replication: int
    key: str
    purpose: str
    settings: tuple[Setting, ...]

    @property
    def config(self) -> dict[str, str]:
        return {setting.name: setting.value for setting in self.settings}


def topics_of(
    app: str, *, partitions: int = PARTITIONS_DEFAULT, replication: int = REPLICATION_DEFAULT
) -> tuple[TopicPlan, ...]:
    """inbox, control, history, dlq. Fewer than three replicas are for development only."""

    def plan(suffix: str, key: str, purpose: str, *own: Setting) -> TopicPlan:
        return TopicPlan(
            name=f"{app}.{suffix}",
            partitions=partitions,
            replication=replication,
            key=key,
            purpose=purpose,
            settings=(*_durable(replication), *own),
        )

    return (
        plan(
            "inbox",
            "the event's key or id, or the start's idempotency key",
            "triggers; anyone may write",
            *_SOURCE,
        ),
        plan("control", "run id", "signals, cancels and nudges, to the run's shard", *_SOURCE),
        plan("history", "run id; empty for events of the shard", "the events", *_HISTORY),
        plan("inbox.dlq", "as the source record", "records that could not be read", *_DLQ),
    )


def _durable(replication: int) -> tuple[Setting, ...]:
    return (
        Setting("cleanup.policy", "delete", "compaction would keep one record of each run"),
        Setting(
            "min.insync.replicas",
            str(min(IN_SYNC_MIN, replication)),
            "what was acknowledged is on two brokers, and one of three may fail",
        ),
        Setting(
            "unclean.leader.election.enable",
            "false",
            "a leader that lags behind would take back what was proven",
        ),
    )


_STAMPED = Setting(
    "message.timestamp.type",
    "LogAppendTime",
    "timers of owners on different machines agree on the broker's time",
)
_SOURCE = (
    _STAMPED,
    Setting(
        "retention.ms",
        str(SOURCE_RETENTION_MS),
        "longer than any outage of the workers; what was taken in lives in the history",
    ),
    Setting(
        "max.message.bytes",
        str(SOURCE_RECORD_BYTES_MAX),
        "intake takes 900 KB; what is larger is better refused at the sender",
    ),
)
_HISTORY = (
    _STAMPED,
    Setting("retention.ms", "-1", "a run that sleeps for a year must find its history"),
    Setting("retention.bytes", "-1", "a busy shard must not push out the runs that wait"),
    Setting(
        "max.message.bytes",
        str(EVENT_RECORD_BYTES_MAX),
        "an event holds a whole trigger and what wraps it; a refused append stops the shard",
    ),
)
_DLQ = (
    Setting("retention.ms", "-1", "a record leaves when somebody redrives or drops it"),
    Setting(
        "max.message.bytes",
        str(EVENT_RECORD_BYTES_MAX),
        "the source record, whatever its size, and the headers that explain it",
    ),
)
