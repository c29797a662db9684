"""Rows, traces and stalled runs, from events alone."""

from __future__ import annotations

from typing import Any

import pytest

from stepfold.core import events as e
from stepfold.core.ids import Epoch
from stepfold_projections.projection import step_name
from stepfold_projections.runs import RunRow
from stepfold_projections.stalled import STALLED_AFTER_MS, stalled_reason
from stepfold_projections.trace import RunTrace, trace_of
from tests.unit.history_samples import (
    NOWHERE,
    START_MS,
    HistoryMaker,
    accepted,
    attempt_failed,
    run_completed,
    run_failed,
    started,
    step_completed,
)

EPOCH = Epoch(0, 1)
TRIGGER = accepted(HistoryMaker().next_inbox())
RUN = TRIGGER.run_id
DUE = START_MS + 5_000

TIMER_SET = e.TimerSet(run_id=RUN, timer_id="nap", due=DUE, purpose="sleep")
TIMER_FIRED = e.TimerFired(run_id=RUN, timer_id="nap", due=DUE)
WAIT = e.WaitOpened(run_id=RUN, wait_id="approval", kind="signal", name="approval", expires_at=DUE)
GOT = e.WaitResolved(
    source=NOWHERE,
    run_id=RUN,
    wait_id="approval",
    signal_id="s1",
    payload=b"true",
    payload_encoding="json",
    key_id="",
)
EARLY = e.SignalBuffered(
    source=NOWHERE,
    run_id=RUN,
    signal_id="s1",
    name="approval",
    payload=b"true",
    payload_encoding="json",
    key_id="",
    ttl_at=0,
)
UNDEPLOYED = e.WaitOpened(
    run_id=RUN, wait_id="definition", kind="definition", name="agent", expires_at=0
)
LOST = e.AttemptLost(
    run_id=RUN, step="plan", attempt=1, lost=1, prev_epoch_offset=0, prev_epoch_nonce=1
)
GIVEN_UP = e.AttemptCancelled(run_id=RUN, step="plan", attempt=1, reason="not wanted")
TIMED_OUT = e.AttemptTimedOut(
    run_id=RUN, step="plan", attempt=1, reason="over 2 s", next_at=DUE, took_ms=2_000
)
PAUSED = e.RunPaused(source=NOWHERE, run_id=RUN, by="ada", reason="look first")
RESUMED = e.RunResumed(source=NOWHERE, run_id=RUN, by="ada", reason="")
PARKED = e.RunParked(
    run_id=RUN, reason="definition_changed", message="no int", step="plan", lost=0, failed=0
)
CANCELLED = e.RunCancelled(run_id=RUN, reason="wrong model")
FAILED = attempt_failed(RUN, "plan", next_at=DUE)
FAILED_FOR_GOOD = attempt_failed(RUN, "plan", next_at=0)


def traced(*events: e.Event) -> RunTrace:
    records = [
        e.Recorded(offset, EPOCH, offset, START_MS + offset * 10, event)
        for offset, event in enumerate((TRIGGER, *events), start=1)
    ]
    trace = trace_of(RUN, records, 0)
    assert trace is not None
    return trace


def row_of(*events: e.Event) -> RunRow:
    return traced(*events).row


@pytest.mark.parametrize(
    ("events", "status", "due_at"),
    [
        ((), "queued", START_MS + 10),
        ((started(RUN, "plan"),), "running", None),
        ((started(RUN, "plan"), step_completed(RUN, "plan")), "running", START_MS + 30),
        ((started(RUN, "plan"), FAILED), "backoff", DUE),
        ((started(RUN, "plan"), FAILED, started(RUN, "plan", 2)), "running", None),
        ((started(RUN, "plan"), FAILED_FOR_GOOD), "running", START_MS + 30),
        ((started(RUN, "plan"), TIMED_OUT), "backoff", DUE),
        ((started(RUN, "plan"), LOST), "backoff", START_MS + 30),
        ((started(RUN, "plan"), GIVEN_UP), "running", START_MS + 30),
        ((TIMER_SET,), "sleeping", DUE),
        ((TIMER_SET, TIMER_FIRED), "running", START_MS + 30),
        ((WAIT,), "waiting", DUE),
        ((WAIT, GOT), "running", START_MS + 30),
        ((UNDEPLOYED,), "waiting", None),
        ((WAIT, started(RUN, "plan")), "running", DUE),
        ((WAIT, PAUSED), "paused", None),
        ((WAIT, PAUSED, RESUMED), "waiting", DUE),
        ((PARKED,), "parked", None),
        ((PARKED, RESUMED), "queued", START_MS + 30),
        ((run_completed(RUN),), "completed", None),
        ((run_failed(RUN),), "failed", None),
        ((WAIT, CANCELLED), "cancelled", None),
    ],
)
def test_status_and_due_time_follow_from_what_is_open(
    events: tuple[e.Event, ...], status: str, due_at: int | None
) -> None:
    row = row_of(*events)

    assert (row.status, row.due_at) == (status, due_at)


def test_row_counts_steps_attempts_failures_and_losses() -> None:
    row = row_of(
        started(RUN, "plan"),
        LOST,
        started(RUN, "plan", 2),
        attempt_failed(RUN, "plan", 2, next_at=DUE),
        started(RUN, "plan", 3),
        step_completed(RUN, "plan", 3),
        started(RUN, "write"),
    )

    assert (row.steps, row.steps_completed, row.attempts) == (2, 1, 4)
    assert (row.failures, row.losses) == (1, 1)


def test_errors_of_attempts_are_not_errors_of_a_run_that_completed() -> None:
    row = row_of(started(RUN, "plan"), FAILED, run_completed(RUN))

    assert (row.error_type, row.error_message) == ("", "")


def test_trace_holds_each_attempt_with_its_error_and_its_place_in_the_log() -> None:
    trace = traced(
        started(RUN, "plan"),
        FAILED,
        started(RUN, "plan", 2),
        step_completed(RUN, "plan", 2),
    )

    step = trace.steps["plan"]
    first, second = step.attempts
    assert (step.status, step.input, step.output) == (
        "completed",
        b'{"args": [1], "kwargs": {}}',
        b"42",
    )
    assert first.error is not None
    assert (first.status, first.error.type, first.next_at) == ("failed", "ConnectionError", DUE)
    assert (first.offset, first.end_offset) == (2, 3)
    assert (second.status, second.took_ms) == ("completed", 5)
    assert step.error is None


@pytest.mark.parametrize(
    ("end", "status", "step_status"),
    [
        (LOST, "lost", "backoff"),
        (TIMED_OUT, "timed_out", "backoff"),
        (GIVEN_UP, "cancelled", "cancelled"),
        (FAILED_FOR_GOOD, "failed", "failed"),
    ],
)
def test_trace_tells_how_an_attempt_ended(end: e.Event, status: str, step_status: str) -> None:
    step = traced(started(RUN, "plan"), end).steps["plan"]

    assert (step.attempts[0].status, step.status) == (status, step_status)
    assert step.error is not None


def test_trace_tells_waits_timers_early_signals_and_requests() -> None:
    trace = traced(EARLY, WAIT, GOT, TIMER_SET, TIMER_FIRED, PAUSED, RESUMED)

    wait, timer, signal = trace.waits["approval"], trace.timers["nap"], trace.signals["s1"]
    assert (wait.status, wait.value) == ("resolved", b"true")
    assert (timer.status, timer.purpose) == ("fired", "sleep")
    assert signal.status == "delivered"
    assert [(r.kind, r.by, r.reason) for r in trace.requests] == [
        ("pause", "ada", "look first"),
        ("resume", "ada", ""),
    ]


def test_signal_that_was_not_taken_shows_with_its_reason() -> None:
    rejected = e.IntakeRejected(
        source=NOWHERE,
        run_id=RUN,
        reason="not a bool",
        dlq_topic="",
        dlq_partition=-1,
        dlq_offset=-1,
        sha256="",
    )

    trace = traced(WAIT, rejected)

    assert [r.reason for r in trace.rejections] == ["not a bool"]
    assert trace.row.status == "waiting"


def test_run_that_is_not_accepted_in_the_events_has_no_trace() -> None:
    assert trace_of(RUN, [], 0) is None


@pytest.mark.parametrize(
    ("events", "words"),
    [
        ((), "not begun"),
        ((TIMER_SET,), "a timer was due"),
        ((WAIT,), "a wait's end was due"),
        ((started(RUN, "plan"), FAILED), "the next attempt was due"),
    ],
)
def test_run_of_which_something_was_due_long_ago_is_stalled(
    events: tuple[e.Event, ...], words: str
) -> None:
    row = row_of(*events)
    due_at: Any = row.due_at

    assert stalled_reason(row, due_at + STALLED_AFTER_MS - 1) is None
    reason = stalled_reason(row, due_at + STALLED_AFTER_MS)
    assert reason is not None
    assert words in reason


def test_running_waiting_or_ended_run_is_never_stalled() -> None:
    for events in ((started(RUN, "plan"),), (UNDEPLOYED,), (run_completed(RUN),), (PARKED,)):
        assert stalled_reason(row_of(*events), START_MS + 10**9) is None


@pytest.mark.parametrize(
    ("step", "name"),
    [("search", "search"), ("search#2", "search"), ("search[a#1]", "search"), ("a#b#2", "a#b")],
)
def test_step_name_is_the_identity_without_count_and_key(step: str, name: str) -> None:
    assert step_name(step) == name
