"""Which records count (rule R5), and what they make of a run."""

from __future__ import annotations

import pytest

from stepfold.core import events as e
from stepfold.core import outcomes as o
from stepfold.core.effects import pending, wake_at
from stepfold.core.ids import NO_EPOCH, Epoch, parse_run_id, run_id_of, short_topic_id
from stepfold.core.run import StepStatus, lost_delay_ms
from stepfold.core.shard import Chain, Shard, Verdict, fold
from tests.unit import core_samples as given


def claim(offset: int, prev: Epoch, nonce: int) -> e.Recorded:
    event = e.Claimed(
        prev_epoch_offset=prev.offset,
        prev_epoch_nonce=prev.nonce,
        nonce=nonce,
        worker_id="w",
        host="h",
        pid=1,
        build="",
        fold_version=1,
        closes_last_seq=-1,
        closes_last_offset=-1,
        unsafe=False,
    )
    return e.Recorded(offset, NO_EPOCH, -1, 0, event)


def record(offset: int, epoch: Epoch, seq: int, event: e.Event = given.OPENED) -> e.Recorded:
    return e.Recorded(offset, epoch, seq, given.AT, event)


FIRST = Epoch(0, 11)
SECOND = Epoch(3, 22)


@pytest.mark.parametrize(
    ("last", "verdict"),
    [
        pytest.param(record(4, SECOND, 0), Verdict.APPLIES, id="next of the epoch in force"),
        pytest.param(record(4, FIRST, 2), Verdict.FENCED, id="late record of the old owner"),
        pytest.param(record(4, SECOND, 1), Verdict.GAP, id="its predecessor never arrived"),
        pytest.param(claim(4, FIRST, 33), Verdict.VOID_CLAIM, id="claim of a superseded epoch"),
        pytest.param(claim(4, SECOND, 33), Verdict.CLAIMS, id="claim of the epoch in force"),
    ],
)
def test_record_counts_only_under_the_epoch_in_force_and_in_order(
    last: e.Recorded, verdict: Verdict
) -> None:
    chain = Chain()
    for earlier in (
        claim(0, NO_EPOCH, 11),
        record(1, FIRST, 0),
        record(2, FIRST, 1),
        claim(3, FIRST, 22),
    ):
        assert chain.admit(earlier)

    assert chain.judge(last) is verdict


def test_repeated_record_is_void() -> None:
    chain = Chain()
    chain.admit(claim(0, NO_EPOCH, 11))
    chain.admit(record(1, FIRST, 0))

    assert chain.judge(record(2, FIRST, 0)) is Verdict.DUPLICATE


def test_gap_stays_void_until_the_next_claim() -> None:
    chain = Chain()
    chain.admit(claim(0, NO_EPOCH, 11))

    verdicts = [chain.judge(record(1, FIRST, 1)), chain.judge(record(2, FIRST, 2))]

    assert verdicts == [Verdict.GAP, Verdict.GAP]


def test_void_record_changes_no_state() -> None:
    shard = Shard()

    assert not fold(shard, record(0, FIRST, 0, given.accepted()))
    assert shard.runs == {}


def test_outcomes_are_kept_in_the_order_of_the_log() -> None:
    run = given.run_of(
        given.started("a"), given.started("b"), given.completed("b"), given.completed("a")
    )

    assert [outcome.step for outcome in run.outcomes if isinstance(outcome, o.StepSucceeded)] == [
        "b",
        "a",
    ]


def test_failure_with_a_next_attempt_is_no_outcome() -> None:
    run = given.run_of(given.started(), given.failed(next_at=given.AT + 5))

    assert run.outcomes == []
    assert (run.steps["plan"].status, wake_at(run)) == (StepStatus.BACKOFF, given.AT + 5)


def test_run_that_ended_leaves_the_shard() -> None:
    shard = given.shard_of([e.RunCancelled(run_id=given.RUN, reason="")])

    assert shard.runs == {}


def test_intake_position_moves_with_the_event_that_holds_it() -> None:
    shard = given.shard_of()

    assert shard.intake[given.INBOX, 0].offset == 5


def test_attempt_of_an_older_epoch_is_pending_as_lost() -> None:
    run = given.run_of(given.started())

    assert not pending(run, given.EPOCH).lost
    assert pending(run, given.LATER_EPOCH).lost


def test_slow_start_after_losses_grows_to_a_bound() -> None:
    assert [lost_delay_ms(n) for n in (1, 2, 3, 4, 30)] == [0, 250, 500, 1_000, 10_000]


def test_run_id_tells_its_place_and_sorts_as_the_triggers_did() -> None:
    topic = short_topic_id("some topic id")
    ids = [run_id_of(3, topic, offset) for offset in (9, 10, 31, 32, 1_000_000)]

    assert parse_run_id(ids[3]) == (3, topic, 32, 0)
    assert ids == sorted(ids)


@pytest.mark.parametrize("text", ["", "x", "00u-00000-00000000000-00", "000-00000-0000000000-00"])
def test_text_that_is_no_run_id_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a run id"):
        parse_run_id(text)
