"""The engine's parts with one clause left out of each: what a search has to find."""

from __future__ import annotations

from stepfold.core import commands as c
from stepfold.core import events as e
from stepfold.core.ids import Epoch
from stepfold.core.shard import Chain, Shard, Verdict
from stepfold.engine.outbox import _Target  # pyright: ignore[reportPrivateUsage] - its state
from stepfold.journal.port import LogRecord, Report
from stepfold.journal.writer import HistoryWriter
from tests.model.checkpoints import OpenCheckpoints
from tests.model.deliveries import OpenOutbox
from tests.model.intake import OpenIntake


class ChainWithoutNumbers(Chain):
    """An event counts if its epoch is in force, whatever its number is."""

    __slots__ = ()

    def judge(self, record: e.Recorded) -> Verdict:
        if not isinstance(record.event, e.Claimed) and record.epoch == self.epoch:
            self.next_seq = record.seq
        return super().judge(record)


class ChainWithGaps(Chain):
    """An event counts if its number is new, though others are missing before it."""

    __slots__ = ()

    def judge(self, record: e.Recorded) -> Verdict:
        if not isinstance(record.event, e.Claimed) and record.epoch == self.epoch:
            self.next_seq = max(self.next_seq, record.seq)
        return super().judge(record)


class ChainWithoutComparison(Chain):
    """Every claim counts, whichever epoch it names."""

    __slots__ = ()

    def judge(self, record: e.Recorded) -> Verdict:
        if isinstance(record.event, e.Claimed):
            self.epoch = Epoch(record.event.prev_epoch_offset, record.event.prev_epoch_nonce)
        return super().judge(record)


class WriterOnAcknowledgement(HistoryWriter):
    """Whatever is delivered is taken for proven, wherever it landed."""

    def _reported(self, seq: int, report: Report) -> None:
        if report.error is None:
            report = report._replace(offset=self.epoch.offset + 1 + seq)
        super()._reported(seq, report)


class WriterWithoutEarlier(HistoryWriter):
    """Each report is judged alone; one that has no offset is passed over."""

    def _reported(self, seq: int, report: Report) -> None:
        if report.offset is None:
            return
        self.proven_seq = seq - 1
        super()._reported(seq, report)


class WriterPastFailures(HistoryWriter):
    """A failed report is passed over, and the events after it go on."""

    def _reported(self, seq: int, report: Report) -> None:
        if report.error is not None:
            return
        self.proven_seq = seq - 1
        super()._reported(seq, report)


class WriterOfFailedOffsets(HistoryWriter):
    """The offset of a report is read although the report is one of failure."""

    def _reported(self, seq: int, report: Report) -> None:
        super()._reported(seq, report._replace(error=None))


class OutboxSendsOne(OpenOutbox):
    """Of what failed, that delivery alone is sent again, not those that were sent after it."""

    def _reported(
        self, name: str, target: _Target, generation: int, n: int, report: Report
    ) -> None:
        if report.error is None:
            super()._reported(name, target, generation, n, report)
        else:
            self._append(name, target, self._shard.outbox[name].unacked[n])


class OutboxHearsAll(OpenOutbox):
    """A report counts although its delivery was sent before the outbox went back."""

    def _reported(
        self, name: str, target: _Target, generation: int, n: int, report: Report
    ) -> None:
        if report.error is None:
            n = max(n, target.acked)
            target.sent = max(n, target.sent)
        super()._reported(name, target, target.generation, n, report)


class OutboxWithoutStart(OpenOutbox):
    """A new owner takes what was intended before it for delivered."""

    def start(self) -> None:
        for name, outgoing in self._shard.outbox.items():
            last = outgoing.last
            self._targets[name] = _Target(last, last, last, last)


def is_new(shard: Shard, delivery: c.Deliver) -> bool:
    """A high-water mark: whatever is later than all before is taken."""
    return delivery.n > shard.inbound.get(delivery.from_shard, 0)


def is_any(shard: Shard, delivery: c.Deliver) -> bool:
    """Nothing is a repetition."""
    return True


class IntakeTakesAgain(OpenIntake):
    """Records are taken whether or not an event stands for them already."""

    @property
    def position(self) -> int:
        return 0

    def open(self) -> None:
        self._reader.open(self.source.name, self._partition, super().position, self.take)


class IntakeRejectsAtOnce(OpenIntake):
    """A record is rejected while its copy is still on its way."""

    def _copy_to_dlq(self, record: LogRecord, reason: str) -> None:
        super()._copy_to_dlq(record, reason)
        super()._copied(record, reason, Report(0, 0, None))


class IntakeCopiedAnyway(OpenIntake):
    """A copy is taken for made, whatever its report says."""

    def _copied(self, record: LogRecord, reason: str, report: Report) -> None:
        super()._copied(record, reason, Report(0, 0, None))


class CheckpointsMarkTheirOwn(OpenCheckpoints):
    """The mark is the checkpoint's own beginning, whatever runs were written before it."""

    def _end(self) -> None:
        shard = self._history.shard
        for run in shard.runs.values():
            run.base = max(run.base, shard.chain.last_offset + 1)
        super()._end()
