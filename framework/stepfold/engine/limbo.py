"""Watches the history of a shard that this process lost, for somebody else to take it.

A lost session does not mean that: when the group's coordinator is away, every worker
loses all its shards and nobody gets them. So attempts go on, and nothing is written,
until a claim by another process shows that they are in vain (rule R14).
"""

from __future__ import annotations

from collections.abc import Callable

from stepfold.core import events as e
from stepfold.core.errors import CodecError
from stepfold.core.shard import Chain, Verdict
from stepfold.journal.codec import decode_event
from stepfold.journal.port import Batch, LogRecord, Reader


class LimboWatch:
    """led_until: how far the history is this process's own. on_taken is called once, if ever."""

    def __init__(
        self,
        *,
        reader: Reader,
        history: str,
        partition: int,
        led_until: Chain,
        worker_id: str,
        on_taken: Callable[[], None],
    ) -> None:
        self._reader = reader
        self._place = (history, partition)
        self._chain = Chain(led_until.epoch, led_until.next_seq, led_until.last_offset)
        self._worker_id = worker_id
        self._on_taken = on_taken
        self._is_open = False

    def open(self) -> None:
        self._is_open = True
        self._reader.open(*self._place, self._chain.last_offset + 1, self._take)

    def close(self) -> None:
        if self._is_open:
            self._is_open = False
            self._reader.close(*self._place)

    def _take(self, batch: Batch) -> None:
        """What cannot be read tells nothing: then the wait goes on."""
        if self._is_open and any(self._is_taken_by(record) for record in batch.records):
            self.close()
            self._on_taken()

    def _is_taken_by(self, record: LogRecord) -> bool:
        try:
            recorded = decode_event(record.value or b"", record.offset)
        except CodecError:
            return True  # of a later version than this one, which writes nothing now
        is_claim = self._chain.judge(recorded) is Verdict.CLAIMS
        # A claim of this process itself may land late, when the shard is lost again.
        event = recorded.event
        return is_claim and isinstance(event, e.Claimed) and event.worker_id != self._worker_id
