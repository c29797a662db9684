"""The contract of scans, on real Kafka; and following."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, cast

import pytest
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from stepfold.core.errors import KafkaError, NotFoundError
from stepfold.journal.port import LogRecord
from stepfold.journal.scan import KafkaScan
from tests.contract.scan_contract import (
    HEADERS,
    PARTITIONS,
    ScanContract,
    SendableScanContract,
    World,
    numbered,
    read,
)

FLUSH_S = 20.0


class KafkaWorld(World):
    def __init__(self, servers: str, app: str) -> None:
        self.topic = f"{app}.history"
        self.inbox = f"{app}.inbox"
        self.servers = servers

    def write(self, partition: int, values: Sequence[bytes], topic: str = "") -> None:
        producer = Producer({"bootstrap.servers": self.servers, "enable.idempotence": True})
        for value in values:
            producer.produce(
                topic or self.topic, value, b"key", partition=partition, headers=[*HEADERS]
            )
        assert producer.flush(FLUSH_S) == 0

    def delete_before(self, partition: int, offset: int) -> None:
        admin = cast("Any", AdminClient({"bootstrap.servers": self.servers}))
        place = TopicPartition(self.topic, partition, offset)
        admin.delete_records([place])[place].result(FLUSH_S)

    def scan(self) -> KafkaScan:
        return KafkaScan(self.servers, {})


@pytest.fixture
def world(kafka_bootstrap: str, new_app: Callable[[int], str]) -> KafkaWorld:
    return KafkaWorld(kafka_bootstrap, new_app(PARTITIONS))


class TestKafka(ScanContract, SendableScanContract): ...


def test_transactions_that_others_wrote_do_not_hide_where_the_inbox_ends(
    world: KafkaWorld,
) -> None:
    world.write(0, numbered(3), world.inbox)
    producer = Producer(
        {"bootstrap.servers": world.servers, "transactional.id": world.inbox, "log_level": 0}
    )
    producer.init_transactions()
    producer.begin_transaction()
    producer.produce(world.inbox, b"given up", partition=0)
    producer.flush(FLUSH_S)
    producer.abort_transaction()
    scan = world.scan()
    deadline = time.monotonic() + FLUSH_S
    while (extent := scan.extent(world.inbox, 0)).end < 5:  # the broker writes its marker later
        assert time.monotonic() < deadline

    records = read(scan, world.inbox, 0, extent.first, extent.end)

    assert [record.offset for record in records] == [0, 1, 2]
    assert extent.end == 5


def test_records_that_come_later_are_followed_in_all_partitions(world: KafkaWorld) -> None:
    world.write(0, numbered(2))
    scan = world.scan()
    following = scan.follow(world.topic, {0: 1, 1: 0})
    first = next(record for record in following if record is not None)

    world.write(1, [b"later"])
    later = next(record for record in following if record is not None)

    def place(record: LogRecord) -> tuple[int, int, bytes | None]:
        return record.partition, record.offset, record.value

    assert (place(first), place(later)) == ((0, 1, b"1"), (1, 0, b"later"))


def test_partition_that_is_not_there_is_not_found(world: KafkaWorld) -> None:
    with pytest.raises(NotFoundError, match="there is no partition"):
        world.scan().extent(world.topic, PARTITIONS)


def test_offset_that_is_deleted_is_an_error_and_not_a_jump(world: KafkaWorld) -> None:
    world.write(0, numbered(5))
    world.delete_before(0, 3)

    with pytest.raises(KafkaError, match="cannot be read on"):
        read(world.scan(), world.topic, 0, 0, 5)
