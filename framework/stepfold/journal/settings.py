"""Each librdkafka key that stepfold sets, with its reason.

A user's own keys (kafka.config.*) come in between: they win over plain defaults, and
lose against what the protocol's safety rests on.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stepfold.core.errors import ConfigurationError

APPEND_QUEUE_MAX = 100_000
"""Records in the producer; the engine's own bounds are far below."""
SESSION_TIMEOUT_MS = 10_000
MAX_POLL_INTERVAL_MS = 300_000

_OURS_APPENDER: dict[str, Any] = {
    "acks": "all",  # a proven record is on every in-sync replica
    "enable.idempotence": True,  # retries keep the order; the sequence rule does the rest
    "message.timeout.ms": 0,  # an outage must not make a gap: wait, do not give up
    # The topics' own limits count: what an inbox took has to fit into its dlq, or it waits there
    # for ever, and the client's default of 1,000,000 is below that of brokers and other clients.
    "message.max.bytes": 1_000_000_000,
}
_APPENDER: dict[str, Any] = {
    "linger.ms": 0,  # the default of 5 ms would be the price of every step
    "socket.timeout.ms": 10_000,  # how long a leader change can stall the producer
    "request.timeout.ms": 8_000,  # must be below socket.timeout.ms
    # Alone, a record costs the same with and without; under load lz4 gave a quarter more.
    "compression.type": "lz4",
    "queue.buffering.max.messages": APPEND_QUEUE_MAX,
    "log_level": 2,  # at 3 each try to connect is a line, 20 a second while Kafka is away
}
_OURS_READER: dict[str, Any] = {
    "enable.auto.commit": False,  # positions are folded, never committed
    "enable.auto.offset.store": False,
    "auto.offset.reset": "error",  # a jump would be a silent loss
    "enable.partition.eof": True,  # "folded to the end" has to be known
}
_READER: dict[str, Any] = {
    "group.id": "stepfold-reader",  # demanded by librdkafka; no group is joined
    "queued.min.messages": 2_000,  # the default of 100,000 fills the heap at a takeover
    "queued.max.messages.kbytes": 8_192,
    "fetch.queue.backoff.ms": 20,  # the default of 1 s stalls a fold for as long
    # A partition that is opened waits for the fetch under way: at 20 ms 33 ms pass until it
    # is read to its end, at 100 ms 172; an idle process costs 1.0 % of a core, not 0.6.
    # Records of partitions that are open already do not wait for it at all.
    "fetch.wait.max.ms": 20,
    "log_level": 2,
}
_SCAN: dict[str, Any] = {
    "queued.min.messages": 100_000,  # it reads as fast as it can, and nothing else goes on
    "queued.max.messages.kbytes": 65_536,
}
_OURS_MEMBER: dict[str, Any] = {
    "group.protocol": "classic",  # a crashed static member comes back at once only here
    "partition.assignment.strategy": "cooperative-sticky",
    "enable.auto.commit": False,
    "enable.auto.offset.store": False,
    "auto.offset.reset": "earliest",
}
_MEMBER: dict[str, Any] = {
    "session.timeout.ms": SESSION_TIMEOUT_MS,
    "heartbeat.interval.ms": 3_000,
    "max.poll.interval.ms": MAX_POLL_INTERVAL_MS,
    "queued.min.messages": 1,  # nothing is read through the group; it is paused at once
    "queued.max.messages.kbytes": 64,
    "log_level": 2,
}


def appender_config(servers: str, user: Mapping[str, Any]) -> dict[str, Any]:
    return _merged(servers, _APPENDER, user, _OURS_APPENDER)


def reader_config(servers: str, user: Mapping[str, Any]) -> dict[str, Any]:
    return _merged(servers, _READER, user, _OURS_READER)


def scan_config(servers: str, user: Mapping[str, Any]) -> dict[str, Any]:
    """For reading a log from end to end, once."""
    return _merged(servers, {**_READER, **_SCAN}, user, _OURS_READER)


def member_config(
    servers: str, user: Mapping[str, Any], *, group: str, instance_id: str
) -> dict[str, Any]:
    ours = {**_OURS_MEMBER, "group.id": group, "group.instance.id": instance_id}
    return _merged(servers, _MEMBER, user, ours)


def admin_config(servers: str, user: Mapping[str, Any]) -> dict[str, Any]:
    allowed = ("sasl.", "security.", "ssl.", "client.", "socket.", "broker.")
    plain = {key: value for key, value in user.items() if key.startswith(allowed)}
    return {"log_level": 2, **plain, "bootstrap.servers": servers}


def _merged(
    servers: str, defaults: dict[str, Any], user: Mapping[str, Any], ours: dict[str, Any]
) -> dict[str, Any]:
    for key, value in user.items():
        if key in ours and str(ours[key]).lower() != str(value).lower():
            raise ConfigurationError(
                f"kafka.config.{key}={value} cannot be set: stepfold needs {ours[key]!r} there; "
                "remove it"
            )
    return {**defaults, **user, **ours, "bootstrap.servers": servers}
