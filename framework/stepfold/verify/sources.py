"""Compares a history with what it was made from: inbox, control, and the copies in the DLQ (I3).

The history has been read before, so every source record that it tells of must be there
by now, unless it was deleted since.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence

from stepfold.journal.port import Extent, LogRecord, Scan
from stepfold.verify.checker import ShardChecker
from stepfold.verify.story import Fate, Rejected, SourceStory

BEHIND_THE_END = 1 << 62


def check_sources(checker: ShardChecker, scan: Scan) -> None:
    """Every source record up to the folded position has one fate, and none above it."""
    story = checker.story
    for name in ("inbox", "control"):
        topic = f"{story.app}.{name}"
        if story.partition not in scan.partitions(topic):
            continue
        extent = scan.extent(topic, story.partition)
        source = story.sources.get((extent.topic_id, story.partition))
        if source is None:
            checker.report.source_pending += extent.end - extent.first
            continue
        _Comparison(checker, scan, topic, extent, source).run()
    _check_copies(checker, scan)


class _Comparison:
    """Walks over a source partition and over the fates of its records side by side."""

    def __init__(
        self, checker: ShardChecker, scan: Scan, topic: str, extent: Extent, source: SourceStory
    ) -> None:
        self._checker = checker
        self._scan = scan
        self._topic = topic
        self._extent = extent
        self._source = source
        self._ranges = source.ranges()
        self._next_range()
        self._copies = {copy.source_offset: copy for copy in source.copies}

    def run(self) -> None:
        source, extent = self._source, self._extent
        partition = self._checker.story.partition
        first, end = max(extent.first, source.start), min(extent.end, source.mark + 1)
        for records in self._scan.read(self._topic, partition, first, end):
            self._checker.report.source_records += len(records)
            for record in records:
                self._compare(record)
        self._checker.report.source_pending += max(0, extent.end - max(end, extent.first))
        for _, last, _, offset in source.ranges():
            if last >= extent.end:
                self._checker.add(
                    "I3",
                    "fates-are-of-records-that-came",
                    f"the history dealt with record {last} of {self._topic}, which ends at"
                    f" {extent.end}",
                    offset=offset,
                )

    def _compare(self, record: LogRecord) -> None:
        while self._last < record.offset:
            self._next_range()
        if record.offset < self._first:
            self._found(
                record, "source-records-have-a-fate", "the record was passed over: it has no fate"
            )
        elif self._fate is Fate.GAP:
            sentence = f"offset {self._offset} of the history says that it was deleted; it is there"
            self._found(record, "gaps-are-of-deleted-records", sentence)
        copy = self._copies.get(record.offset)
        if copy is not None and _sha256(record) != copy.sha256:
            sentence = f"its SHA-256 is not the one that offset {copy.offset} of the history names"
            self._found(record, "rejections-name-their-record", sentence)

    def _found(self, record: LogRecord, rule: str, sentence: str) -> None:
        self._checker.add("I3", rule, sentence, topic=self._topic, offset=record.offset)

    def _next_range(self) -> None:
        behind = (BEHIND_THE_END, BEHIND_THE_END, Fate.UNMATCHED, -1)
        self._first, self._last, self._fate, self._offset = next(self._ranges, behind)


def _check_copies(checker: ShardChecker, scan: Scan) -> None:
    copies = [copy for source in checker.story.sources.values() for copy in source.copies]
    for topic, partition in sorted({(copy.topic, copy.partition) for copy in copies}):
        here = [c for c in copies if (c.topic, c.partition) == (topic, partition)]
        if partition not in scan.partitions(topic):
            checker.report.copies_unchecked += len(here)
            continue
        extent = scan.extent(topic, partition)
        kept = {copy.dlq_offset: copy for copy in here if copy.dlq_offset >= extent.first}
        checker.report.copies_unchecked += len(here) - len(kept)
        for record in _records(scan, topic, partition, sorted(kept), extent.end):
            copy = kept.pop(record.offset, None)
            if copy is not None and _sha256(record) != copy.sha256:
                _miss(checker, copy, "its SHA-256 is not the one that is named")
        for copy in kept.values():
            _miss(checker, copy, "there is no such record")


def _records(
    scan: Scan, topic: str, partition: int, offsets: Sequence[int], end: int
) -> Iterator[LogRecord]:
    if offsets:
        for records in scan.read(topic, partition, offsets[0], min(end, offsets[-1] + 1)):
            yield from records


def _miss(checker: ShardChecker, copy: Rejected, why: str) -> None:
    where = f"{copy.topic}/{copy.partition}/{copy.dlq_offset}"
    checker.add(
        "I3", "rejected-records-are-in-the-dlq", f"the copy at {where}: {why}", offset=copy.offset
    )


def _sha256(record: LogRecord) -> str:
    return hashlib.sha256(record.value or b"").hexdigest()
