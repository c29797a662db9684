"""Checks one history partition, record by record, in one pass.

For each record: does it count, what do the rules say of it, and then what it tells. A
rule that is broken does not stop the check: what the record says is taken as the log's
word, so that one mistake is reported once and not with every record after it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from stepfold.core import events as e
from stepfold.core.errors import CodecError
from stepfold.journal.port import LogRecord
from stepfold.verify.memory import TELLS, Tell
from stepfold.verify.reading import Reader, UnknownEvent, evidence
from stepfold.verify.report import Report, Violation
from stepfold.verify.rule import Check, Rule, Scope
from stepfold.verify.rules import RULES
from stepfold.verify.story import Deliveries, Moment, ShardStory
from stepfold.verify.succession import Void


@dataclass(slots=True)
class _Kind:
    """What is done with the events of one kind, and how many counted."""

    has_run: bool
    has_step: bool
    counting: Sequence[tuple[Rule, Check]]
    void: Sequence[tuple[Rule, Check]]
    tell: Tell | None
    count: int = 0


class ShardChecker:
    """Feed it the records of a history from the first on; `report` is what it found."""

    def __init__(self, story: ShardStory, rules: Sequence[Rule] = RULES) -> None:
        self.story = story
        self.report = Report()
        self.next_offset: int | None = None
        self._first = 0
        self._topic = f"{story.app}.history"
        self._kinds = {kind: _kind(kind, rules) for kind in (*e.EVENT_TYPES, UnknownEvent)}
        self._reader = Reader()
        self._quick = self._reader.quick
        self._runs = story.runs
        self._succession = story.succession
        self._now = Moment(story)

    def take_all(self, records: Sequence[LogRecord]) -> None:
        """The next records, in order."""
        if self.next_offset is None and records:
            self._begin(records)
        for record in records:
            self._take(record)
        self.report.records += len(records)

    def finish(self) -> None:
        """Count what the log has come to."""
        report = self.report
        for kind, of_kind in self._kinds.items():
            if of_kind.count:
                report.kinds[kind.__name__] += of_kind.count
                if kind in ENDS:
                    report.runs[ENDS[kind]] += of_kind.count
        report.runs.update(run.state for run in self.story.runs.values())
        self._check_beginning()
        story = self.story
        report.is_whole, report.sent, report.taken = story.is_whole, story.sent, story.taken
        report.deliveries["decided"] += _count(story.sent, f"{story.app}.control/")
        report.deliveries["taken"] += _count(story.taken, f"{story.app}/")

    def add(
        self,
        invariant: str,
        rule: str,
        sentence: str,
        *,
        offset: int,
        topic: str = "",
        run_id: str = "",
        step: str = "",
    ) -> None:
        self.report.add(
            Violation(
                invariant=invariant,
                rule=rule,
                topic=topic or self._topic,
                partition=self.story.partition,
                offset=offset,
                run_id=run_id,
                step=step,
                sentence=sentence,
            )
        )

    def _begin(self, records: Sequence[LogRecord]) -> None:
        self._first = first = records[0].offset
        self.next_offset = first
        if first == 0:
            return
        self.story.is_whole = False
        self.story.succession.join(evidence(self._reader, records), first)
        self._reader.expect(self.story.succession.owner)

    def _check_beginning(self) -> None:
        """Records may only be deleted before the mark of a checkpoint that came later."""
        if self.story.is_whole or self.story.lwm >= self._first:
            return
        sentence = (
            f"the history begins at offset {self._first}, and no checkpoint behind it says that a"
            " fold may begin there: what an owner needs is deleted"
        )
        self.add("I8", "history-is-kept", sentence, offset=self._first)

    def _take(self, record: LogRecord) -> None:
        offset = record.offset
        if offset != self.next_offset:
            sentence = f"offset {self.next_offset} was to come: records are missing or misplaced"
            self.add("I8", "offsets-have-no-holes", sentence, offset=offset)
        self.next_offset = offset + 1
        value = record.value or b""
        event: Any
        now = self._now
        try:
            now.epoch, now.seq, event = self._quick(value) or self._reader.read(value, offset)
        except CodecError as error:
            self.add("I2", "record-is-readable", f"no owner can read on: {error}", offset=offset)
            return
        now.offset, now.timestamp = offset, record.timestamp
        kind = self._kinds[type(event)]
        now.run = run = self._runs.get(event.run_id) if kind.has_run else None
        now.step = run.steps.get(event.step) if run is not None and kind.has_step else None
        succession = self._succession
        if now.seq == succession.next_seq and now.epoch == succession.owner:
            self._take_counting(event, kind)
        elif isinstance(event, e.Claimed):
            self._take_claim(event, kind)
        else:
            self._take_void(event, kind, succession.void_event(now.epoch, now.seq))

    def _take_counting(self, event: object, kind: _Kind) -> None:
        now, succession = self._now, self._succession
        for rule, check in kind.counting:
            sentence = check(event, now)
            if sentence is not None:
                self._break(rule, event, sentence)
        succession.advance(now.offset, now.seq)
        if succession.unproven_from is not None:
            self.story.unproven.setdefault(now.epoch, succession.unproven_from)
        kind.count += 1
        if kind.tell is not None:
            kind.tell(event, now)
        else:
            name = event.kind if isinstance(event, UnknownEvent) else type(event).__name__
            self.report.unchecked[name] += 1

    def _take_claim(self, claim: e.Claimed, kind: _Kind) -> None:
        now, succession = self._now, self._succession
        if (claim.prev_epoch_offset, claim.prev_epoch_nonce) != succession.owner:
            self._take_void(claim, kind, Void.CLAIM)
            return
        for rule, check in kind.counting:
            sentence = check(claim, now)
            if sentence is not None:
                self._break(rule, claim, sentence)
        self.story.closed[succession.owner] = succession.next_seq - 1
        succession.claimed(now.offset, claim.nonce)
        self._reader.expect(succession.owner)
        kind.count += 1
        TELLS[e.Claimed](claim, now)

    def _take_void(self, event: Any, kind: _Kind, void: Void) -> None:
        now, story = self._now, self.story
        self.report.void[void.value] += 1
        if void is Void.GAP:
            story.unproven.setdefault(now.epoch, self._succession.next_seq)
        # What comes again, late and fenced, had counted when it came first.
        is_new = void is Void.GAP or (
            void is Void.FENCED and now.seq > story.closed.get(now.epoch, -1)
        )
        if is_new:
            story.unproven.setdefault(now.epoch, now.seq)
        if is_new and isinstance(event, e.AttemptStarted):
            story.void_starts.add((now.epoch, event.run_id, event.step, event.attempt))
        for rule, check in kind.void:
            sentence = check(event, now)
            if sentence is not None:
                self._break(rule, event, sentence)

    def _break(self, rule: Rule, event: Any, sentence: str) -> None:
        self.add(
            rule.invariant,
            rule.name,
            sentence,
            offset=self._now.offset,
            run_id=getattr(event, "run_id", ""),
            step=getattr(event, "step", ""),
        )


ENDS: Mapping[type[Any], str] = {
    e.RunCompleted: "completed",
    e.RunFailed: "failed",
    e.RunCancelled: "cancelled",
}


def _count(deliveries: Mapping[str, Deliveries], begin: str) -> int:
    """Of those to, or from, shards of the app itself."""
    return sum(len(each) for name, each in deliveries.items() if name.startswith(begin))


def _kind(kind: type[Any], rules: Iterable[Rule]) -> _Kind:
    names = {field.name for field in dataclasses.fields(kind)}
    asked = [rule for rule in rules if kind in rule.kinds]
    return _Kind(
        has_run="run_id" in names,
        has_step="step" in names,
        counting=[(rule, rule.check) for rule in asked if Scope.COUNTING in rule.scope],
        void=[(rule, rule.check) for rule in asked if Scope.VOID in rule.scope],
        tell=TELLS.get(kind),
    )
