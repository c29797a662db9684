"""What commands produce, given what happened before."""

from __future__ import annotations

from stepfold.core import commands as c
from stepfold.core import decide
from stepfold.core import events as e
from stepfold.core.ids import run_id_of, short_topic_id
from stepfold.core.retry import Retry
from stepfold.core.run import Run
from stepfold.core.shard import evolve
from tests.unit import core_samples as given

AT = given.AT


def start(run: Run, step: str = "plan") -> tuple[e.AttemptStarted, ...]:
    return decide.start_attempt(run, step, payload=b"[1]", timeout_ms=500, worker_id="w", now=AT)


def fail(run: Run, attempt: int, policy: Retry | None) -> e.AttemptFailed:
    (event,) = decide.fail_attempt(
        run,
        "plan",
        attempt,
        error=("ValueError", "no", ""),
        policy=policy,
        delay_ms=None,
        took_ms=1,
        now=AT,
    )
    return event


def signal(run_id: str = given.RUN, name: str = "approval") -> c.Signal:
    return c.Signal(
        run_id=run_id,
        signal_id="s1",
        name=name,
        payload=b"true",
        payload_encoding="json",
        key_id="",
    )


def cancel(run_id: str = given.RUN) -> c.Cancel:
    return c.Cancel(run_id=run_id, by="me", reason="wrong model")


def test_first_attempt_carries_the_input_and_its_timeout() -> None:
    (event,) = start(given.run_of())

    assert (event.attempt, event.payload, event.timeout_at) == (1, b"[1]", AT + 500)


def test_later_attempt_refers_to_the_input_of_the_first() -> None:
    (event,) = start(given.run_of(given.started(), given.failed(next_at=AT)))

    assert (event.attempt, event.payload_encoding) == (2, "none")


def test_step_with_an_open_attempt_is_not_started_again() -> None:
    assert start(given.run_of(given.started())) == ()


def test_completed_step_is_never_started_again() -> None:
    assert start(given.run_of(given.started(), given.completed())) == ()


def test_result_of_a_superseded_attempt_is_dropped() -> None:
    run = given.run_of(given.started(), given.lost(), given.started(attempt=2))

    late = decide.complete_attempt(run, "plan", 1, payload=b"late", took_ms=1)

    assert late == ()


def test_second_result_of_an_attempt_is_dropped() -> None:
    run = given.run_of(given.started(), given.completed())

    assert decide.complete_attempt(run, "plan", 1, payload=b"2", took_ms=1) == ()


def test_failure_with_attempts_left_sets_the_next_one() -> None:
    event = fail(given.run_of(given.started()), 1, Retry(attempts=2, min_delay="1s", jitter=0))

    assert event.next_at == AT + 1_000


def test_failure_of_the_last_attempt_fails_the_step() -> None:
    run = given.run_of(given.started(), given.failed(next_at=AT), given.started(attempt=2))

    assert fail(run, 2, Retry(attempts=2)).next_at == 0


def test_fatal_failure_is_not_retried() -> None:
    event = fail(given.run_of(given.started()), 1, None)

    assert (event.retryable, event.next_at) == (False, 0)


def test_lost_attempts_do_not_use_up_the_policy() -> None:
    run = given.run_of(given.started(), given.lost(), given.started(attempt=2))

    assert fail(run, 2, Retry(attempts=2)).next_at > 0


def test_new_owner_loses_the_attempts_of_older_epochs_only() -> None:
    shard = given.shard_of([given.started("old")], epoch=given.LATER_EPOCH)
    evolve(shard, given.started("new"), AT, given.LATER_EPOCH)

    produced = decide.lose_attempts(shard, shard.runs[given.RUN])

    assert [(event.step, event.lost) for event in produced if isinstance(event, e.AttemptLost)] == [
        ("old", 1)
    ]


def test_step_that_keeps_losing_its_process_parks_the_run() -> None:
    history: list[e.Event] = [
        given.started(),
        given.lost(times=decide.LOST_MAX - 1),
        given.started(attempt=2),
    ]
    shard = given.shard_of(history, epoch=given.LATER_EPOCH)

    produced = decide.lose_attempts(shard, shard.runs[given.RUN])

    assert [type(event) for event in produced] == [e.AttemptLost, e.RunParked]


def test_signal_resolves_the_wait_of_its_name() -> None:
    shard = given.shard_of([given.waits()])

    (event,) = decide.control(shard, signal(), given.control_at(0), AT)

    assert isinstance(event, e.WaitResolved)
    assert event.wait_id == "approval"


def test_signal_that_nobody_waits_for_is_buffered_and_delivered_later() -> None:
    shard = given.shard_of()
    (event,) = decide.control(shard, signal(), given.control_at(0), AT)
    evolve(shard, event, AT, given.EPOCH)
    evolve(shard, given.waits(), AT, given.EPOCH)

    (delivered,) = decide.buffered_deliveries(shard.runs[given.RUN])

    assert isinstance(event, e.SignalBuffered)
    assert (delivered.signal_id, delivered.payload) == ("s1", b"true")


def test_command_for_a_run_that_is_not_accepted_yet_waits_for_it() -> None:
    shard = given.shard_of()
    later = run_id_of(0, short_topic_id(given.INBOX), 6)

    (event,) = decide.control(shard, cancel(later), given.control_at(0), AT)
    evolve(shard, event, AT, given.EPOCH)
    evolve(shard, given.accepted(later, offset=6), AT, given.EPOCH)

    assert shard.runs[later].cancel_reason == "wrong model"


def test_command_for_a_run_that_is_over_is_rejected_visibly() -> None:
    shard = given.shard_of([e.RunCancelled(run_id=given.RUN, reason="")])

    (event,) = decide.control(shard, cancel(), given.control_at(0), AT)

    assert isinstance(event, e.IntakeRejected)
    assert "over" in event.reason


def test_second_cancel_changes_nothing() -> None:
    shard = given.shard_of()
    (event,) = decide.control(shard, cancel(), given.control_at(0), AT)
    evolve(shard, event, AT, given.EPOCH)

    assert decide.control(shard, cancel(), given.control_at(1), AT) == ()


def trigger(event_id: str = "evt-1", workflow: str = "", key: str = "") -> c.Trigger:
    return c.Trigger(
        name="agent/run",
        id=event_id,
        workflow=workflow,
        payload=b"{}",
        payload_encoding="json",
        key_id="",
        idempotency_key=key,
        sent_at=0,
    )


def test_repeated_event_id_leads_to_the_first_run() -> None:
    shard = given.shard_of([given.accepted(event_id="evt-1")])
    starts = (e.RunStart("other", "agent", "", "", "", 0),)

    (event,) = decide.accept(shard, "research", trigger(), given.inbox_at(6), starts)

    assert isinstance(event, e.RunDeduplicated)
    assert event.existing_run_id == given.RUN


def test_idempotency_key_counts_per_workflow() -> None:
    shard = given.shard_of([given.accepted(key="q-17")])

    def accept(workflow: str) -> e.Event:
        starts = (e.RunStart("other", workflow, "", "", "q-17", 0),)
        again = trigger(workflow=workflow, key="q-17")
        return decide.accept(shard, "research", again, given.inbox_at(6), starts)[0]

    assert isinstance(accept("agent"), e.RunDeduplicated)
    assert isinstance(accept("another"), e.RunAccepted)


def test_timers_and_waits_are_due_at_their_time_and_not_before() -> None:
    timer = e.TimerSet(run_id=given.RUN, timer_id="nap", due=AT + 10, purpose="sleep")
    run = given.run_of(timer, given.waits(expires_at=AT + 20))

    assert decide.due_events(run, AT + 9) == ()
    assert [type(event) for event in decide.due_events(run, AT + 10)] == [e.TimerFired]
    assert len(decide.due_events(run, AT + 20)) == 2
