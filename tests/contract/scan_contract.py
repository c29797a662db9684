"""What every Scan does: read what is there, once, in order, from one offset to another."""

from __future__ import annotations

import pickle
from abc import abstractmethod
from collections.abc import Sequence

from stepfold.journal.port import Headers, LogRecord, Scan

PARTITIONS = 2
TOPIC = "app.history"
HEADERS: Headers = [("sf-kind", b"Some"), ("sf-seq", b"1")]


class World:
    """A topic with two partitions; `scan` is made when everything is written."""

    @abstractmethod
    def write(self, partition: int, values: Sequence[bytes]) -> None: ...

    @abstractmethod
    def delete_before(self, partition: int, offset: int) -> None: ...

    @abstractmethod
    def scan(self) -> Scan: ...

    topic: str = TOPIC


def numbered(count: int) -> list[bytes]:
    return [b"%d" % number for number in range(count)]


def read(
    scan: Scan, topic: str, partition: int, first: int, end: int, *, with_headers: bool = False
) -> list[LogRecord]:
    batches = scan.read(topic, partition, first, end, with_headers=with_headers)
    return [record for batch in batches for record in batch]


class ScanContract:
    def test_everything_is_read_once_and_in_order(self, world: World) -> None:
        world.write(0, numbered(12_000))
        scan = world.scan()
        extent = scan.extent(world.topic, 0)

        records = read(scan, world.topic, 0, extent.first, extent.end)

        assert (extent.first, extent.end) == (0, 12_000)
        assert [record.offset for record in records] == list(range(12_000))
        assert [record.value for record in records] == numbered(12_000)
        assert {record.topic for record in records} == {world.topic}
        assert {record.partition for record in records} == {0}
        assert all(record.timestamp > 0 for record in records)

    def test_no_record_outside_of_the_offsets_is_read(self, world: World) -> None:
        world.write(1, numbered(10))
        scan = world.scan()

        assert [r.offset for r in read(scan, world.topic, 1, 3, 7)] == [3, 4, 5, 6]
        assert read(scan, world.topic, 1, 7, 7) == []
        assert read(scan, world.topic, 0, 0, 0) == []

    def test_deleted_records_are_outside_of_the_extent(self, world: World) -> None:
        world.write(0, numbered(10))
        world.delete_before(0, 4)
        scan = world.scan()
        extent = scan.extent(world.topic, 0)

        records = read(scan, world.topic, 0, extent.first, extent.end)

        assert (extent.first, extent.end) == (4, 10)
        assert [record.offset for record in records] == list(range(4, 10))

    def test_headers_are_there_when_they_are_asked_for(self, world: World) -> None:
        world.write(0, numbered(1))
        scan = world.scan()

        (bare,) = read(scan, world.topic, 0, 0, 1)
        (whole,) = read(scan, world.topic, 0, 0, 1, with_headers=True)

        assert not bare.headers
        assert list(whole.headers) == HEADERS

    def test_partitions_are_those_of_the_topic(self, world: World) -> None:
        world.write(0, numbered(1))
        scan = world.scan()

        assert list(scan.partitions(world.topic)) == list(range(PARTITIONS))
        assert list(scan.partitions("app.nothing")) == []
        assert scan.extent(world.topic, 0).topic_id == scan.extent(world.topic, 1).topic_id


class SendableScanContract:
    def test_it_reads_in_another_process_what_it_reads_here(self, world: World) -> None:
        world.write(0, numbered(10))
        scan = world.scan()

        sent: Scan = pickle.loads(pickle.dumps(scan))

        assert sent.extent(world.topic, 0) == scan.extent(world.topic, 0)
        assert read(sent, world.topic, 0, 0, 10) == read(scan, world.topic, 0, 0, 10)
