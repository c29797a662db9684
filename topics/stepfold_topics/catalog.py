"""The topics of an app, and why they are set as they are.

inbox, control and history have the same number of partitions: partition p of each is
one shard. The number is fixed when the topics are made, because run ids and keys name
their partition.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

PARTITIONS_DEFAULT = 8
REPLICATION_DEFAULT = 3
DAY_MS = 86_400_000
MESSAGE_BYTES_MAX = 2 * 1024 * 1024
"""An event is at most 900 KB; the rest is for what wraps it."""

DURABLE = {
    "min.insync.replicas": "2",  # with three replicas, one broker may fail
    "unclean.leader.election.enable": "false",  # a stale leader would take proven events back
}


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicPlan:
    """One topic as it should be. `key` says what records are keyed by."""

    name: str
    partitions: int
    replication: int
    key: str
    purpose: str
    config: Mapping[str, str] = field(default_factory=dict[str, str])


def topics_of(
    app: str, *, partitions: int = PARTITIONS_DEFAULT, replication: int = REPLICATION_DEFAULT
) -> tuple[TopicPlan, ...]:
    """inbox, control, history, dlq."""
    durable = dict(DURABLE)
    durable["min.insync.replicas"] = str(min(2, replication))
    common = {**durable, "cleanup.policy": "delete", "max.message.bytes": str(MESSAGE_BYTES_MAX)}
    # Broker time: timers and waits of owners on different machines must agree.
    stamped = {**common, "message.timestamp.type": "LogAppendTime"}
    return (
        TopicPlan(
            name=f"{app}.inbox",
            partitions=partitions,
            replication=replication,
            key="the event's key or id, or the start's idempotency key",
            purpose="triggers; anyone may write",
            # Long enough for any outage of the workers; taken triggers live in the history.
            config={**stamped, "retention.ms": str(30 * DAY_MS)},
        ),
        TopicPlan(
            name=f"{app}.control",
            partitions=partitions,
            replication=replication,
            key="run id",
            purpose="signals, cancels and nudges, to the run's own partition",
            config={**stamped, "retention.ms": str(30 * DAY_MS)},
        ),
        TopicPlan(
            name=f"{app}.history",
            partitions=partitions,
            replication=replication,
            key="run id",
            purpose="the events; only the engine writes",
            # A run that sleeps for a month must find its history: nothing expires by itself.
            config={**stamped, "retention.ms": "-1", "retention.bytes": "-1"},
        ),
        TopicPlan(
            name=f"{app}.inbox.dlq",
            partitions=partitions,
            replication=replication,
            key="as the source record",
            purpose="records that could not be read, with the reason in their headers",
            config={**common, "retention.ms": "-1"},
        ),
    )
