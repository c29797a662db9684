"""Checks one history partition, record by record, in one pass.

For each record: does it count, what do the rules say of it, and then what it tells. A
rule that is broken does not stop the check: what the record says is taken as the log's
word, so that one mistake is reported once and not with every record after it.
"""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from stepfold.core import events as e
from stepfold.core.errors import CodecError
from stepfold.journal.port import LogRecord
from stepfold.verify.memory import TELLS
from stepfold.verify.reading import Reader, UnknownEvent, evidence
from stepfold.verify.report import Report, Violation
from stepfold.verify.rule import Check, Rule, Scope
from stepfold.verify.rules import RULES
from stepfold.verify.story import Deliveries, Moment, ShardStory
from stepfold.verify.succession import Void


class ShardChecker:
    """Feed it the records of a history from the first on; `report` is what it found."""

    def __init__(self, story: ShardStory, rules: Sequence[Rule] = RULES) -> None:
        self.story = story
        self.report = Report()
        self.next_offset: int | None = None
        self._first = 0
        self._topic = f"{story.app}.history"
        self._counting = _by_kind(rules, Scope.COUNTING)
        self._void = _by_kind(rules, Scope.VOID)
        self._reader = Reader()
        self._quick = self._reader.quick
        self._runs = story.runs
        self._succession = story.succession
        self._now = Moment(story)
        self._counts: dict[type[Any], int] = defaultdict(int)

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
        for kind, count in self._counts.items():
            report.kinds[kind.__name__] += count
        report.runs.update(run.state for run in self.story.runs.values())
        ends = {state: self._counts[kind] for kind, state in ENDS.items() if self._counts[kind]}
        report.runs.update(ends)
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
        has_run, has_step = _ABOUT[type(event)]
        now.run = run = self._runs.get(event.run_id) if has_run else None
        now.step = None if run is None or not has_step else run.steps.get(event.step)
        succession = self._succession
        if now.seq == succession.next_seq and now.epoch == succession.owner:
            self._take_counting(event)
        elif isinstance(event, e.Claimed):
            self._take_claim(event)
        else:
            self._take_void(event, succession.void_event(now.epoch, now.seq))

    def _take_counting(self, event: object) -> None:
        now, kind = self._now, type(event)
        for rule, check in self._counting[kind]:
            sentence = check(event, now)
            if sentence is not None:
                self._break(rule, event, sentence)
        self._succession.advance(now.offset, now.seq)
        if self._succession.unproven_from is not None:
            self.story.unproven.setdefault(now.epoch, self._succession.unproven_from)
        self._counts[kind] += 1
        tell = TELLS.get(kind)
        if tell is not None:
            tell(event, now)
        else:
            name = event.kind if isinstance(event, UnknownEvent) else kind.__name__
            self.report.unchecked[name] += 1

    def _take_claim(self, claim: e.Claimed) -> None:
        now, succession = self._now, self._succession
        if (claim.prev_epoch_offset, claim.prev_epoch_nonce) != succession.owner:
            self._take_void(claim, Void.CLAIM)
            return
        for rule, check in self._counting[e.Claimed]:
            sentence = check(claim, now)
            if sentence is not None:
                self._break(rule, claim, sentence)
        self.story.closed[succession.owner] = succession.next_seq - 1
        succession.claimed(now.offset, claim.nonce)
        self._reader.expect(succession.owner)
        self._counts[e.Claimed] += 1
        TELLS[e.Claimed](claim, now)

    def _take_void(self, event: Any, void: Void) -> None:
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
        for rule, check in self._void[type(event)]:
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


def _by_kind(
    rules: Iterable[Rule], scope: Scope
) -> Mapping[type[Any], Sequence[tuple[Rule, Check]]]:
    found: dict[type[Any], list[tuple[Rule, Check]]] = defaultdict(list)
    for rule in rules:
        if scope in rule.scope:
            for kind in rule.kinds:
                found[kind].append((rule, rule.check))
    return found


def _about(kind: type[Any]) -> tuple[bool, bool]:
    names = {field.name for field in dataclasses.fields(kind)}
    return "run_id" in names, "step" in names


_ABOUT: Mapping[type[Any], tuple[bool, bool]] = {
    kind: _about(kind) for kind in (*e.EVENT_TYPES, UnknownEvent)
}
"""Whether events of a kind name a run, and a step of it."""
