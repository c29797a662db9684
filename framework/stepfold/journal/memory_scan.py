"""The log in memory, read as it lies. A Scan, for the process that holds the log."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from stepfold.core.errors import NotFoundError
from stepfold.journal.memory import BATCH_RECORDS_MAX, MemoryCluster
from stepfold.journal.port import Extent, LogRecord


class MemoryScan:
    def __init__(self, cluster: MemoryCluster) -> None:
        self._cluster = cluster

    def partitions(self, topic: str) -> Sequence[int]:
        facts = self._cluster.facts(topic)
        return range(0 if facts is None else facts.partitions)

    def extent(self, topic: str, partition: int) -> Extent:
        facts = self._cluster.facts(topic)
        if facts is None or not self._cluster.has_partition(topic, partition):
            raise NotFoundError(f"there is no partition {topic}/{partition}")
        log = self._cluster.log(topic, partition)
        return Extent(facts.topic_id, log.low, log.end, settled=log.end)

    def read(
        self, topic: str, partition: int, first: int, end: int, *, with_headers: bool = False
    ) -> Iterator[Sequence[LogRecord]]:
        log = self._cluster.log(topic, partition)
        records = [r for r in log.records if first <= r.offset < end]
        if not with_headers:
            records = [record._replace(headers=()) for record in records]
        for start in range(0, len(records), BATCH_RECORDS_MAX):
            yield records[start : start + BATCH_RECORDS_MAX]
