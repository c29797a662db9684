"""The real fold with its real offsets, begun at any record of a log, each case worked out once."""

from __future__ import annotations

from collections.abc import Hashable
from functools import lru_cache
from typing import TypeAlias

from stepfold.core import events as e
from stepfold.core.ids import Epoch
from stepfold.core.run_state import run_state
from stepfold.core.shard import Shard, begin_at, fold
from stepfold.core.shard_state import shard_state
from tests.model.histories import duplicate, freeze

Log: TypeAlias = tuple[int, ...]
"""Records by number, from offset 0 on, those that were deleted since included."""


class Folds:
    def __init__(self) -> None:
        self._shards: list[Shard] = []
        self._numbers: dict[Hashable, int] = {}
        self._records: list[e.Recorded] = []
        self._record_numbers: dict[e.Recorded, int] = {}
        self.of = lru_cache(None)(self._of)
        self.on = lru_cache(None)(self._on)
        self.shown = lru_cache(None)(self._shown)

    def number(self, shard: Shard) -> int:
        """Keeps the shard: it must not change any more."""
        frozen = freeze(shard)
        number = self._numbers.get(frozen)
        if number is None:
            number = self._numbers[frozen] = len(self._shards)
            self._shards.append(shard)
        return number

    def shard(self, number: int) -> Shard:
        """To be looked at, never to be changed."""
        return self._shards[number]

    def copy(self, number: int) -> Shard:
        return duplicate(self._shards[number])

    def record_number(self, record: e.Recorded) -> int:
        """The record, wherever it lands."""
        record = record._replace(offset=-1)
        number = self._record_numbers.get(record)
        if number is None:
            number = self._record_numbers[record] = len(self._records)
            self._records.append(record)
        return number

    def record(self, number: int) -> e.Recorded:
        return self._records[number]

    def _of(self, log: Log, begin: int) -> int:
        """The fold of the log from an offset on; that of the log without its end is known."""
        offset = len(log) - 1
        if offset > begin:
            return self.on(self.of(log[:-1], begin), offset, log[offset])
        shard = Shard()
        first = self._records[log[offset]]._replace(offset=offset)
        if offset > 0:  # as the engine's `Folding` begins in the middle
            begin_at(shard, first)
        fold(shard, first)
        return self.number(shard)

    def _on(self, number: int, offset: int, record: int) -> int:
        shard = self.copy(number)
        fold(shard, self._records[record]._replace(offset=offset))
        return self.number(shard)

    def is_partial(self, log: Log, begin: int) -> bool:
        return self._shards[self.of(log, begin)].is_partial

    def counts(self, log: Log) -> bool:
        """Whether the last record does."""
        return self._shards[self.of(log, 0)].chain.last_offset == len(log) - 1

    def epoch(self, log: Log, begin: int) -> Epoch:
        return self._shards[self.of(log, begin)].chain.epoch

    def are_alike(self, log: Log, begin: int) -> bool:
        """Whether the fold from there is the fold from the start."""
        return self.shown(self.of(log, begin)) == self.shown(self.of(log, 0))

    def _shown(self, number: int) -> Hashable:
        """All that two folds have to agree on."""
        shard = self._shards[number]
        runs = tuple((run_id, run_state(run)) for run_id, run in sorted(shard.runs.items()))
        chain = (shard.chain.epoch, shard.chain.next_seq, shard.chain.last_offset)
        return runs, shard_state(shard), chain, shard.lwm, shard.checkpoint_offset
