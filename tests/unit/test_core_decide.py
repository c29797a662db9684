"""What commands produce, given what happened before."""

from __future__ import annotations

from collections.abc import Sequence

from stepfold.core import decide
from stepfold.core import events as e
from stepfold.core.retry import Retry
from stepfold.core.run import ISOLATED_FROM, Run
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


def test_step_that_lost_too_many_attempts_with_its_workers_parks_the_run() -> None:
    history = [given.started(attempt=decide.IN_VAIN_MAX)]
    shard = given.shard_of(history, epoch=given.LATER_EPOCH)

    produced = decide.lose_attempts(shard, shard.runs[given.RUN])

    assert [type(event) for event in produced] == [e.AttemptLost, e.RunParked]


def test_failed_attempts_are_not_among_those_that_were_lost() -> None:
    history: list[e.Event] = [
        given.started(),
        given.failed(next_at=AT),
        given.started(attempt=decide.IN_VAIN_MAX),
    ]
    shard = given.shard_of(history, epoch=given.LATER_EPOCH)

    produced = decide.lose_attempts(shard, shard.runs[given.RUN])

    assert [type(event) for event in produced] == [e.AttemptLost]


def test_all_attempts_of_a_dead_process_are_lost_also_when_one_of_them_parks_the_run() -> None:
    history: list[e.Event] = [
        given.started("hopeless", attempt=decide.IN_VAIN_MAX),
        given.started("innocent"),
    ]
    shard = given.shard_of(history, epoch=given.LATER_EPOCH)

    produced = decide.lose_attempts(shard, shard.runs[given.RUN])

    lost = [event.step for event in produced if isinstance(event, e.AttemptLost)]
    assert lost == ["hopeless", "innocent"]
    assert isinstance(produced[-1], e.RunParked)
    assert produced[-1].step == "hopeless"


def test_attempt_that_an_owner_gave_up_in_order_does_not_count_against_its_step() -> None:
    history: list[e.Event] = [given.started(), given.lost(), given.started(attempt=2)]
    shard = given.shard_of(history, epoch=given.LATER_EPOCH)

    (event,) = decide.lose_attempts(shard, shard.runs[given.RUN], in_order=True)

    assert isinstance(event, e.AttemptLost)
    assert event.lost == 1


def test_isolated_attempt_whose_worker_died_does_not_count_against_its_step() -> None:
    history: list[e.Event] = [
        given.started(),
        given.lost(times=2),
        given.started(attempt=2, isolated=True),
    ]
    shard = given.shard_of(history, epoch=given.LATER_EPOCH)

    (event,) = decide.lose_attempts(shard, shard.runs[given.RUN])

    assert isinstance(event, e.AttemptLost)
    assert event.lost == 2


def lose_alone(lost_before: int, *, is_proof: bool = True) -> Sequence[e.Event]:
    run = given.run_of(
        given.started(), given.lost(times=lost_before), given.started(attempt=2, isolated=True)
    )
    return decide.lose_isolated_attempt(
        run, "plan", 2, evidence="signal 11", is_proof=is_proof, max_lost=decide.MAX_LOST
    )


def test_step_that_loses_its_last_process_alone_parks_the_run_with_evidence() -> None:
    lost, parked = lose_alone(decide.MAX_LOST - 1)

    assert isinstance(lost, e.AttemptLost)
    assert isinstance(parked, e.RunParked)
    assert (parked.reason, parked.lost) == ("poison", decide.MAX_LOST)
    assert "signal 11" in parked.message


def test_step_that_loses_a_process_alone_before_its_last_chance_is_tried_again() -> None:
    (lost,) = lose_alone(decide.MAX_LOST - 2)

    assert isinstance(lost, e.AttemptLost)
    assert lost.lost == decide.MAX_LOST - 1


def test_death_of_a_process_that_others_had_used_is_no_proof() -> None:
    (lost,) = lose_alone(decide.MAX_LOST - 1, is_proof=False)

    assert isinstance(lost, e.AttemptLost)
    assert lost.lost == decide.MAX_LOST - 1


def test_isolation_comes_before_the_last_attempt_that_may_be_lost() -> None:
    assert decide.isolated_from(decide.MAX_LOST) == ISOLATED_FROM == 2
    assert decide.isolated_from(2) == 1
    assert decide.isolated_from(25) == 2


def test_resumed_step_is_still_isolated_and_has_another_chance() -> None:
    parked = e.RunParked(
        run_id=given.RUN, reason="poison", message="", step="plan", lost=3, failed=0
    )
    resumed = e.RunResumed(source=given.control_at(0), run_id=given.RUN, by="me", reason="")

    run = given.run_of(given.started(), given.lost(times=5), parked, resumed)

    assert run.steps["plan"].lost == ISOLATED_FROM


def test_timers_and_waits_are_due_at_their_time_and_not_before() -> None:
    timer = e.TimerSet(run_id=given.RUN, timer_id="nap", due=AT + 10, purpose="sleep")
    run = given.run_of(timer, given.waits(expires_at=AT + 20))

    assert decide.due_events(run, AT + 9) == ()
    assert [type(event) for event in decide.due_events(run, AT + 10)] == [e.TimerFired]
    assert len(decide.due_events(run, AT + 20)) == 2
