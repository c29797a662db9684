"""The last records of an app's history, or all of them, told in the order of time."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence

from stepfold.core.errors import NotFoundError
from stepfold.core.ids import parse_run_id
from stepfold.journal.port import LogRecord, Scan
from stepfold.verify.app import history_partitions
from stepfold.verify.telling import Teller, Told

LOOK_BACK_RECORDS = 500
"""Read before the first record that is told, to learn who owns the shard there. A former
owner has at most 64 records under way when it is replaced."""


class Tail:
    """`told` goes up to the end; then `positions` say where to go on, and `tell` how.

    lines: how many records of each partition, the last ones; None: all.
    """

    def __init__(
        self,
        scan: Scan,
        app: str,
        *,
        partition: int | None = None,
        run_id: str | None = None,
        lines: int | None,
    ) -> None:
        self.topic = f"{app}.history"
        self.positions: dict[int, int] = {}
        self._scan = scan
        self._run_id = run_id
        self._lines = lines
        self._partitions = _chosen(history_partitions(scan, app), self.topic, partition, run_id)
        self._tellers = {number: Teller(number) for number in self._partitions}

    def told(self) -> Iterator[Told]:
        told = [self._partition(number) for number in self._partitions]
        yield from heapq.merge(*told, key=lambda each: (each.timestamp, each.partition))

    def tell(self, record: LogRecord) -> Told | None:
        """None: it is about another run."""
        self.positions[record.partition] = record.offset + 1
        told = self._tellers[record.partition].tell(record)
        return told if self._run_id is None or self._run_id in told.runs else None

    def _partition(self, number: int) -> Iterator[Told]:
        extent = self._scan.extent(self.topic, number)
        self.positions[number] = extent.end
        wanted = extent.first
        if self._lines is not None:
            wanted = max(extent.first, extent.end - self._lines)
        first = max(extent.first, wanted - LOOK_BACK_RECORDS)
        is_begun = False
        for records in self._scan.read(self.topic, number, first, extent.end, with_headers=True):
            if not is_begun:
                self._tellers[number].begin(records)
                is_begun = True
            for record in records:
                told = self.tell(record)
                if told is not None and record.offset >= wanted:
                    yield told


def _chosen(
    there: Sequence[int], topic: str, partition: int | None, run_id: str | None
) -> Sequence[int]:
    """Raises NotFoundError; ValueError when the text is no run id."""
    wanted = partition
    if run_id is not None:
        home = parse_run_id(run_id).partition
        if partition not in (None, home):
            raise NotFoundError(
                f"run {run_id} is at home in partition {home}, not in {partition}; leave"
                " --partition out"
            )
        wanted = home
    if wanted is None:
        return there
    if wanted not in there:
        raise NotFoundError(f"there is no partition {wanted} of {topic}; it has {len(there)}")
    return (wanted,)
