"""Deliveries to other shards: in order, after the proof, and again from the first in doubt."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import pytest

from stepfold.core import commands as c
from stepfold.core import events as e
from stepfold.core.ids import Epoch
from stepfold.core.shard import Shard
from stepfold.engine.clock import Handle
from stepfold.engine.guard import Guard
from stepfold.engine.history import ShardHistory
from stepfold.engine.outbox import ACKS_RECORDED_AFTER_MS, IN_FLIGHT_MAX, RETRY_MS, Outbox
from stepfold.journal.codec import decode_command
from stepfold.journal.writer import HistoryWriter
from tests.unit import core_samples as given
from tests.unit.recording_appender import RecordingAppender

EPOCH = Epoch(100, 7)
TARGET = "research.control/3"


@dataclass
class SetClock:
    """Stands still; `pass_ms` calls what is due by then."""

    now: int = 1_000_000
    calls: list[tuple[int, Callable[[], None]]] = field(
        default_factory=list[tuple[int, Callable[[], None]]]
    )

    def now_ms(self) -> int:
        return self.now

    def observe(self, broker_ms: int) -> None:
        """The test says what time it is, no broker."""

    def call_at(self, due_ms: int, callback: Callable[[], None]) -> Handle:
        self.calls.append((due_ms, callback))
        return self

    def cancel(self) -> None:
        """Nothing here is called unasked."""

    def pass_ms(self, milliseconds: int) -> None:
        self.now += milliseconds
        due = [callback for at, callback in self.calls if at <= self.now]
        self.calls = [call for call in self.calls if call[0] > self.now]
        for callback in due:
            callback()


class Desk:
    def __init__(self, shard: Shard | None = None) -> None:
        self.clock = SetClock()
        self.log, self.sent = RecordingAppender(), RecordingAppender()
        self.errors: list[Exception] = []
        writer = HistoryWriter(
            appender=self.log,
            topic="research.history",
            partition=0,
            epoch=EPOCH,
            on_uncertain=lambda reason: None,
            on_proof=lambda at: None,
            on_error=self.errors.append,
        )
        self.shard = shard or Shard()
        self.history = ShardHistory(
            shard=self.shard, writer=writer, clock=self.clock, deliver=self.release
        )
        self.outbox = Outbox(
            shard_name="research/0",
            history=self.history,
            appender=self.sent,
            guard=Guard(self.errors.append),
        )

    def release(self, outs: Iterable[e.Out]) -> None:
        self.outbox.release(outs)

    def intend(self, n: int, *, proven: bool = True) -> None:
        """An event with the n-th delivery for the target."""
        cancel = c.Cancel(run_id=given.RUN, by="test", reason=str(n))
        out = (e.Out(TARGET, n, cancel),)
        self.history.append(e.RunCancelled(run_id=given.RUN, reason="", out=out))
        if proven:
            self.prove()

    def prove(self) -> None:
        for number in range(self.history.writer.proven_seq + 1, self.history.writer.next_seq):
            self.log.report(number, EPOCH.offset + 1 + number)

    @property
    def numbers(self) -> list[int]:
        commands = [decode_command(value) for value in self.sent.values]
        return [command.n for command in commands if isinstance(command, c.Deliver)]

    @property
    def recorded(self) -> list[int]:
        return [event.upto for event in self.log.events if isinstance(event, e.OutboxAcked)]


@pytest.fixture
def desk() -> Desk:
    return Desk()


def test_nothing_is_sent_before_its_event_is_proven(desk: Desk) -> None:
    desk.intend(1, proven=False)
    before = desk.numbers

    desk.prove()

    assert before == []
    assert desk.numbers == [1]


def test_no_more_deliveries_are_under_way_than_the_bound(desk: Desk) -> None:
    for n in range(1, IN_FLIGHT_MAX + 4):
        desk.intend(n)
    under_way = len(desk.numbers)

    desk.sent.report(0, 500)

    assert under_way == IN_FLIGHT_MAX
    assert desk.numbers[-1] == IN_FLIGHT_MAX + 1


def test_after_a_failure_all_is_sent_again_from_the_first_in_doubt(desk: Desk) -> None:
    for n in (1, 2, 3, 4):
        desk.intend(n)
    desk.sent.report(0, 500)

    desk.sent.report(1, None, "the leader moved")
    desk.sent.report(2, 501)  # it landed, and the target cannot have taken it
    desk.sent.report(3, 502)
    before = list(desk.numbers)
    desk.clock.pass_ms(RETRY_MS)

    assert before == [1, 2, 3, 4]
    assert desk.numbers == [1, 2, 3, 4, 2, 3, 4]


def test_history_is_told_of_acknowledgements_after_a_while_and_once(desk: Desk) -> None:
    for n in (1, 2, 3):
        desk.intend(n)
        desk.sent.report(n - 1, 500 + n)
    before = list(desk.recorded)

    desk.clock.pass_ms(ACKS_RECORDED_AFTER_MS)
    desk.clock.pass_ms(ACKS_RECORDED_AFTER_MS)

    assert before == []
    assert desk.recorded == [3]
    assert not desk.shard.outbox[TARGET].unacked


def test_new_owner_sends_again_what_the_history_does_not_show_as_acknowledged(desk: Desk) -> None:
    for n in (1, 2, 3):
        desk.intend(n)
    desk.sent.report(0, 500)
    desk.clock.pass_ms(ACKS_RECORDED_AFTER_MS)
    successor = Desk(desk.shard)

    successor.outbox.start()
    successor.intend(4)

    assert successor.numbers == [2, 3, 4]
    assert successor.errors == desk.errors == []
