"""The pen of a history: sequence numbers, offset proofs, and what happens without one."""

from __future__ import annotations

from dataclasses import replace

import pytest

from stepfold.core import events as e
from stepfold.core.errors import PayloadTooLargeError
from stepfold.core.ids import Epoch
from stepfold.core.shard import Chain
from stepfold.journal import writer
from stepfold.journal.writer import IN_FLIGHT_MAX, HistoryWriter
from tests.unit import core_samples as given
from tests.unit.recording_appender import RecordingAppender

EPOCH = Epoch(100, 7)


class Desk:
    def __init__(self) -> None:
        self.appender = RecordingAppender()
        self.uncertain: list[str] = []
        self.errors: list[Exception] = []
        self.proven: list[int] = []
        self.now_s = 50.0
        self.writer = HistoryWriter(
            appender=self.appender,
            topic="research.history",
            partition=0,
            epoch=EPOCH,
            on_uncertain=self.uncertain.append,
            on_proof=lambda at: None,
            on_error=self.errors.append,
            now_s=lambda: self.now_s,
        )

    def write(self, number: int, event: e.Event | None = None) -> None:
        event = event or given.started()
        self.writer.append(event, at=1, tenant="", when_proven=lambda: self.proven.append(number))


@pytest.fixture
def desk() -> Desk:
    return Desk()


def test_effects_wait_for_the_acknowledgement_at_the_expected_offset(desk: Desk) -> None:
    desk.write(0)
    desk.write(1)
    before = list(desk.proven)

    desk.appender.report(0, EPOCH.offset + 1)
    desk.appender.report(1, EPOCH.offset + 2)

    assert before == []
    assert desk.proven == [0, 1]
    assert desk.writer.unproven == 0


@pytest.mark.parametrize(
    ("offset", "error"),
    [
        (EPOCH.offset + 2, None),  # somebody wrote in between
        (EPOCH.offset, None),
        (0, None),  # a client's offset that means nothing
        (None, "no acknowledgement"),
        (EPOCH.offset + 1, "failed, and its offset must not be looked at"),
    ],
)
def test_any_other_report_proves_nothing_and_stops_the_pen(
    desk: Desk, offset: int | None, error: str | None
) -> None:
    desk.write(0)

    desk.appender.report(0, offset, error)
    desk.write(1)

    assert desk.proven == []
    assert len(desk.uncertain) == 1
    assert len(desk.appender.values) == 1, "nothing is handed over any more"


def test_report_out_of_order_proves_nothing(desk: Desk) -> None:
    desk.write(0)
    desk.write(1)

    desk.appender.report(1, EPOCH.offset + 2)

    assert desk.proven == []
    assert len(desk.uncertain) == 1


def test_event_that_cannot_be_encoded_takes_no_place(desk: Desk) -> None:
    spoiled = replace(given.failed(next_at=0), error_message="\ud800")
    huge = replace(given.completed(), payload=b"x" * 1_000_000)

    with pytest.raises(UnicodeEncodeError):
        desk.write(0, spoiled)
    with pytest.raises(PayloadTooLargeError, match="StepCompleted event has 1000"):
        desk.write(0, huge)
    desk.write(1)

    assert desk.appender.seqs == [0]


def test_no_more_records_are_under_way_than_the_bound(desk: Desk) -> None:
    for number in range(IN_FLIGHT_MAX + 3):
        desk.write(number)
    under_way = len(desk.appender.values)

    desk.appender.report(0, EPOCH.offset + 1)

    assert under_way == IN_FLIGHT_MAX
    assert len(desk.appender.values) == IN_FLIGHT_MAX + 1


def test_error_in_an_effect_is_told_and_does_not_pass_for_a_failed_proof(desk: Desk) -> None:
    def fail() -> None:
        raise ValueError("an effect broke")

    desk.writer.append(given.started(), at=1, tenant="", when_proven=fail)

    desk.appender.report(0, EPOCH.offset + 1)

    assert [str(error) for error in desk.errors] == ["an effect broke"]
    assert desk.uncertain == []


def test_whoever_waits_for_the_backlog_is_called_when_all_of_it_is_proven(desk: Desk) -> None:
    caught_up: list[bool] = []
    desk.write(0)
    desk.write(1)
    desk.writer.when_caught_up(lambda: caught_up.append(True))

    desk.appender.report(0, EPOCH.offset + 1)
    early = list(caught_up)
    desk.appender.report(1, EPOCH.offset + 2)

    assert early == []
    assert caught_up == [True]


def test_time_without_a_proof_counts_only_while_something_waits_for_one(desk: Desk) -> None:
    desk.now_s += 100
    idle = (desk.writer.oldest_s, desk.writer.stalled_s)
    desk.write(0)
    desk.write(1)
    desk.now_s += 4
    waiting = (desk.writer.oldest_s, desk.writer.stalled_s)
    desk.appender.report(0, EPOCH.offset + 1)
    desk.now_s += 2

    assert idle == (0.0, 0.0)
    assert waiting == (4.0, 4.0)
    assert (desk.writer.oldest_s, desk.writer.stalled_s) == (6.0, 2.0)


@pytest.mark.parametrize("bound", ["UNPROVEN_EVENTS_MAX", "UNPROVEN_BYTES_MAX"])
def test_too_many_events_without_a_proof_or_too_large_ones_are_told(
    bound: str, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.write(0)
    size = len(desk.appender.values[0])
    monkeypatch.setattr(writer, bound, 1 if bound == "UNPROVEN_EVENTS_MAX" else size)
    with_one = desk.writer.is_full

    desk.write(1)
    with_two = desk.writer.is_full
    desk.appender.report(0, EPOCH.offset + 1)

    assert (with_one, with_two, desk.writer.is_full) == (False, True, False)


def test_what_is_proven_is_known_as_a_state_of_the_chain(desk: Desk) -> None:
    def proven() -> tuple[Epoch, int, int]:
        chain: Chain = desk.writer.proven
        return chain.epoch, chain.next_seq, chain.last_offset

    desk.write(0)
    desk.write(1)
    before = proven()
    desk.appender.report(0, EPOCH.offset + 1)

    assert before == (EPOCH, 0, EPOCH.offset)
    assert proven() == (EPOCH, 1, EPOCH.offset + 1)
