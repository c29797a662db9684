"""Reads partitions from one offset to another, once: for programs that look at a log as it lies.

It joins no group and commits nothing, so that looking changes nothing. Each reading has a
consumer of its own, and whoever gets a scan in another process starts afresh there.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from typing import Any

from confluent_kafka import Consumer, KafkaException, TopicPartition
from confluent_kafka import KafkaError as KafkaCode
from confluent_kafka.admin import AdminClient

from stepfold.core.errors import KafkaError, NotFoundError
from stepfold.journal.port import Extent, LogRecord
from stepfold.journal.reader import BROKEN, LEADER_EPOCH_UNKNOWN, headers_of
from stepfold.journal.settings import admin_config, scan_config
from stepfold_topics.admin import describe_topics
from stepfold_topics.errors import TopicsUnreachableError

BATCH_RECORDS = 5_000
POLL_S = 0.05
"""A batch that is not full is given after this time."""
FOLLOW_POLL_S = 0.2
REQUEST_TIMEOUT_S = 3.0
"""Short: a request to a broker that is gone waits for all of it, and is then asked again."""
PATIENCE_S = 30.0
"""How long a partition may give nothing, while its leader moves, before that is an error."""


class KafkaScan:
    """A Scan. config: the user's librdkafka settings."""

    def __init__(self, servers: str, config: Mapping[str, str]) -> None:
        self._servers = servers
        self._user = dict(config)
        self._topics: dict[str, tuple[str, int]] = {}

    def partitions(self, topic: str) -> Sequence[int]:
        return range(self._described(topic)[1])

    def extent(self, topic: str, partition: int) -> Extent:
        """Raises NotFoundError without the topic, KafkaError without an answer."""
        topic_id, count = self._described(topic)
        if not 0 <= partition < count:
            raise NotFoundError(f"there is no partition {topic}/{partition}: it has {count}")
        place = TopicPartition(topic, partition)
        deadline = time.monotonic() + PATIENCE_S
        while True:
            # A consumer without an assignment does not learn of a new leader: take a new one.
            consumer = Consumer(scan_config(self._servers, self._user))
            try:
                first, end = consumer.get_watermark_offsets(place, timeout=REQUEST_TIMEOUT_S)
            except KafkaException as error:
                if time.monotonic() > deadline:
                    raise self._unanswered(f"where {topic}/{partition} ends", error) from None
            else:
                return Extent(topic_id, first, end, settled=end)
            finally:
                consumer.close()

    def read(
        self, topic: str, partition: int, first: int, end: int, *, with_headers: bool = False
    ) -> Iterator[Sequence[LogRecord]]:
        """Raises KafkaError when the partition cannot be read on."""
        position = first
        with closing(Consumer(scan_config(self._servers, self._user))) as consumer:
            consumer.assign([TopicPartition(topic, partition, first)])
            deadline = time.monotonic() + PATIENCE_S
            while position < end:
                if time.monotonic() > deadline:
                    raise self._stuck(topic, partition, position, f"nothing in {PATIENCE_S:g} s")
                messages = consumer.consume(BATCH_RECORDS, POLL_S)
                batch, behind = self._records(messages, end, with_headers)
                if behind > position:
                    position = behind
                    deadline = time.monotonic() + PATIENCE_S
                if batch:
                    yield batch

    def follow(self, topic: str, positions: Mapping[int, int]) -> Iterator[LogRecord | None]:
        """Records of several partitions from these positions on, for ever; None: none came."""
        with closing(Consumer(scan_config(self._servers, self._user))) as consumer:
            consumer.assign([TopicPartition(topic, *place) for place in positions.items()])
            while True:
                message = consumer.poll(FOLLOW_POLL_S)
                if message is None:
                    yield None
                    continue
                batch, _ = self._records([message], 1 << 62, with_headers=True)
                yield from batch

    def _records(
        self, messages: Sequence[Any], end: int, with_headers: bool
    ) -> tuple[list[LogRecord], int]:
        """What came before `end`, and the offset behind it and all that cannot be read."""
        found: list[LogRecord] = []
        behind = 0
        for message in messages:
            error = message.error()
            if error is None:
                offset = message.offset()
                if offset >= end:
                    return found, offset
                found.append(_record_of(message, offset, with_headers))
                behind = offset + 1
            elif error.code() == KafkaCode._PARTITION_EOF:
                # A transaction's marker is no record, and may be the last thing there is.
                behind = message.offset()
            elif error.code() in BROKEN:
                place = (message.topic(), message.partition(), message.offset())
                raise self._stuck(*place, error.str())
            # After any other error, as when its leader moves, the client asks again.
        return found, behind

    def _described(self, topic: str) -> tuple[str, int]:
        """Id and number of partitions; none of them when the topic is not there."""
        known = self._topics.get(topic)
        if known is None:
            admin = AdminClient(admin_config(self._servers, self._user))
            try:
                found = describe_topics(admin, [topic]).get(topic)
            except TopicsUnreachableError as error:
                raise KafkaError(f"{error} (Kafka at {self._servers})") from None
            known = ("", 0) if found is None else (found.topic_id, found.partitions)
            self._topics[topic] = known
        return known

    def _unanswered(self, what: str, error: KafkaException) -> KafkaError:
        return KafkaError(
            f"Kafka at {self._servers} does not say {what}: {error.args[0].str()}; "
            "check that all its brokers run"
        )

    def _stuck(self, topic: str, partition: int, offset: int, why: str) -> KafkaError:
        return KafkaError(
            f"{topic}/{partition} cannot be read on at offset {offset}: {why}; "
            f"check that the brokers of Kafka at {self._servers} run"
        )


def _record_of(message: Any, offset: int, with_headers: bool) -> LogRecord:
    epoch = message.leader_epoch()
    return LogRecord(
        message.topic(),
        message.partition(),
        offset,
        LEADER_EPOCH_UNKNOWN if epoch is None else epoch,
        message.timestamp()[1],
        message.key(),
        message.value(),
        headers_of(message) if with_headers else (),
    )
