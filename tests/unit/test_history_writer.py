"""The pen of a history: sequence numbers, offset proofs, and what happens without one."""

from __future__ import annotations

from dataclasses import replace

import pytest

from stepfold.core import events as e
from stepfold.core.errors import PayloadTooLargeError
from stepfold.core.ids import Epoch
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
        self.writer = HistoryWriter(
            appender=self.appender,
            topic="research.history",
            partition=0,
            epoch=EPOCH,
            on_uncertain=self.uncertain.append,
            on_proof=lambda at: None,
            on_error=self.errors.append,
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
