"""Which records count, for a reader that joins a history in the middle.

The fold (rule R5) starts at the first record. A client waits for one run and starts
where the history ended before it asked for the run, so it has to infer which epoch was
in force there. Two facts allow it. Every epoch that shows itself, as the epoch of a
record or as the `prev_epoch` of a claim, was in force once. And epochs in force only
grow in offset. So the latest epoch seen that was claimed before the window is the one
to start from, and the claims inside the window are judged from it by R5 itself; when a
later one shows itself, they are judged again.

What can slip through is a void record at the very beginning, before its rival showed
itself. That does no harm: the window begins before the run was accepted, and whoever
was superseded before the window began never gets the acceptance proven, so it starts no
step of the run (R9). It can only have ended a run that has no steps, and the end of such
a run is the same under every owner.
"""

from __future__ import annotations

from stepfold.core.events import Claimed, Recorded
from stepfold.core.ids import Epoch
from stepfold.core.shard import Chain


class JoinedChain:
    def __init__(self) -> None:
        self._start: int | None = None
        self._base: Epoch | None = None
        self._claims: list[Recorded] = []
        self._chain = Chain()
        self._is_seq_known = False

    def admit(self, record: Recorded) -> bool:
        """Take the next record; whether it counts."""
        if self._start is None:
            self._start = record.offset
        self._consider(_evidence(record), self._start)
        if isinstance(record.event, Claimed):
            self._claims.append(record)
        elif record.epoch == self._base == self._chain.epoch and not self._is_seq_known:
            self._chain.next_seq = record.seq
            self._is_seq_known = True
        return self._chain.admit(record)

    def _consider(self, epoch: Epoch, start: int) -> None:
        if epoch.offset >= start or (self._base is not None and epoch.offset <= self._base.offset):
            return
        self._base = epoch
        self._chain = Chain(epoch)
        self._is_seq_known = False
        for claim in self._claims:
            self._chain.admit(claim)


def _evidence(record: Recorded) -> Epoch:
    """The epoch that was in force once, as this record shows."""
    if isinstance(record.event, Claimed):
        return Epoch(record.event.prev_epoch_offset, record.event.prev_epoch_nonce)
    return record.epoch
