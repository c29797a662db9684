"""The history of one shard, folded as it is read: from the last checkpoint, or from its start.

What cannot be folded is not passed over: the shard is faulted, and says why.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from stepfold.core import events as e
from stepfold.core.errors import CodecError
from stepfold.core.shard import Shard, Verdict, begin_at, evolve
from stepfold.engine.shard_states import ShardFaultError, ShardUnreadableError
from stepfold.journal.codec import decode_event
from stepfold.journal.port import Batch, Reader

logger = logging.getLogger(__name__)

FOLD_SLICE_RECORDS = 2_000
"""Records folded before the loop gets its turn."""


class Folding:
    """position: the offset that a further record would have to reach."""

    def __init__(self, reader: Reader, history: str, partition: int) -> None:
        self.shard = Shard()
        self.position = 0
        self._reader = reader
        self._history = history
        self._partition = partition
        self._place = f"{history}/{partition}"
        self._batches: asyncio.Queue[Batch] = asyncio.Queue()
        self._nonce = -1
        self._is_claim_folded = False

    async def to_end(self, hint: int | None) -> None:
        """Fold to the end, from the last checkpoint if its hint holds (rule R23)."""
        for start in (hint, 0) if hint else (0,):
            self._open(start)
            await self.until(lambda batch: batch.at_end)
            if not self.shard.is_partial:
                return
            logger.warning(
                "no checkpoint ends behind it",
                extra={"topic": self._history, "partition": self._partition, "offset": start},
            )
        raise ShardFaultError(
            f"{self._place} begins at {self.shard.begun_at}, and no checkpoint"
            " behind that shows all open runs: records were deleted that were needed; restore the"
            " topic"
        )

    async def until(self, done: Callable[[Batch], bool]) -> None:
        """Fold on, batch by batch."""
        while True:
            batch = await self._batches.get()
            begin = batch.position if batch.position > self.position else 0
            is_begun = self.shard.chain.last_offset >= 0
            is_elsewhere = begin > 0 or (self.position > 0 and not is_begun)
            if batch.error is not None and is_elsewhere:
                # Trimmed up to there, or the hint is of another time: both show in the fold.
                self._open(begin)
                continue
            if batch.error is not None:
                raise ShardUnreadableError(self._place, self.position, batch.error)
            for start in range(0, len(batch.records), FOLD_SLICE_RECORDS):
                for record in batch.records[start : start + FOLD_SLICE_RECORDS]:
                    self._fold(record.offset, record.value or b"")
                await asyncio.sleep(0)
            self.position = max(self.position, batch.position)
            if done(batch):
                return

    def expect(self, claim: e.Claimed) -> None:
        """`until_claim` is to fold up to this one, wherever it lands."""
        self._nonce, self._is_claim_folded = claim.nonce, False

    async def until_claim(self) -> None:
        """Where it landed only the log knows for sure: a report may name another place."""
        await self.until(lambda _: self._is_claim_folded)

    def close(self) -> None:
        self._reader.close(self._history, self._partition)

    def _open(self, offset: int) -> None:
        # Partial even if there is nothing behind the offset: an empty state would be a lie.
        self.shard, self.position = Shard(begun_at=offset, is_partial=offset > 0), offset
        self._batches = batches = asyncio.Queue[Batch]()
        self._reader.open(self._history, self._partition, offset, batches.put_nowait)

    def _fold(self, offset: int, value: bytes) -> None:
        try:
            recorded = decode_event(value, offset)
        except CodecError as error:
            raise ShardFaultError(
                f"{self._place} holds at offset {offset} what is no event: {error}; only workers"
                " may write there: take that right from everybody else, and restore the topic"
            ) from error
        event = recorded.event
        self._is_claim_folded |= isinstance(event, e.Claimed) and event.nonce == self._nonce
        if self.shard.is_partial and self.shard.chain.last_offset < 0:
            begin_at(self.shard, recorded)
        verdict = self.shard.chain.judge(recorded)
        if verdict in (Verdict.APPLIES, Verdict.CLAIMS):
            evolve(self.shard, recorded.event, recorded.at, self.shard.chain.epoch)
        self.position = offset + 1
