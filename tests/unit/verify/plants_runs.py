"""Planted violations of what runs, their timers, waits and signals may do."""

from __future__ import annotations

import dataclasses

from stepfold.core import events as e
from stepfold.core.ids import run_id_of
from tests.unit.verify.logs import (
    HOUR_MS,
    Log,
    buffered,
    lost,
    parked,
    run_completed,
    run_failed,
    started,
    timer_fired,
    timer_set,
    wait_opened,
    wait_resolved,
)
from tests.unit.verify.plants import plant

# Acceptance


@plant("run-is-accepted-once", also=("run-id-names-its-trigger",))
def a_run_that_is_accepted_again(log: Log) -> int:
    run = log.accept()
    again = log.accepted(log.trigger())
    starts = tuple(start._replace(run_id=run) for start in again.runs)
    return log.append(dataclasses.replace(again, run_id=run, runs=starts))


@plant("run-id-names-its-trigger")
def a_run_under_the_id_of_another_trigger(log: Log) -> int:
    event = log.accepted(log.trigger())
    other = run_id_of(0, "zzzzz", 99)
    starts = tuple(start._replace(run_id=other) for start in event.runs)
    return log.append(dataclasses.replace(event, run_id=other, runs=starts))


@plant("run-id-names-its-trigger")
def runs_of_one_trigger_in_the_wrong_order(log: Log) -> int:
    event = log.accepted(log.trigger(), ("agent", "audit"))
    return log.append(dataclasses.replace(event, runs=event.runs[::-1]))


@plant("run-id-names-its-trigger")
def a_trigger_that_starts_no_run(log: Log) -> int:
    return log.append(dataclasses.replace(log.accepted(log.trigger()), runs=()))


@plant("repeated-key-starts-no-run")
def an_event_that_is_accepted_again(log: Log) -> int:
    log.accept(event_id="event-1")
    return log.append(log.accepted(log.trigger(), event_id="event-1"))


@plant("repeated-key-starts-no-run")
def a_key_that_starts_a_second_run(log: Log) -> int:
    log.accept(key="key-1")
    return log.append(log.accepted(log.trigger(), key="key-1"))


@plant("repetition-names-an-accepted-run")
def a_repetition_of_a_run_that_never_was(log: Log) -> int:
    source = log.trigger()
    return log.append(
        e.RunDeduplicated(
            source=source,
            run_id=log.run_id(source),
            idempotency_key="key-1",
            existing_run_id=run_id_of(0, "zzzzz", 1),
        )
    )


# Life and end


@plant("events-belong-to-an-accepted-run")
def an_event_of_a_run_that_never_was(log: Log) -> int:
    return log.append(started(run_id_of(0, "zzzzz", 1), "plan"))


@plant("nothing-of-a-run-follows-its-end")
def an_attempt_after_the_end(log: Log) -> int:
    run = log.accept()
    log.append(run_completed(run))
    return log.append(started(run, "plan"))


@plant("nothing-of-a-run-follows-its-end")
def a_second_end(log: Log) -> int:
    run = log.accept()
    log.append(run_completed(run))
    return log.append(run_failed(run))


@plant("nothing-of-a-run-follows-its-end")
def a_command_that_a_run_takes_after_its_end(log: Log) -> int:
    run = log.accept()
    log.append(run_completed(run))
    return log.append(e.RunPaused(source=log.command(), run_id=run, by="test", reason=""))


@plant("run-ends-with-no-attempt-open")
def an_end_that_leaves_an_attempt_open(log: Log) -> int:
    run = log.accept()
    log.append(started(run, "plan"))
    return log.append(run_completed(run))


@plant("parked-run-waits-for-resume")
def a_parked_run_that_goes_on(log: Log) -> int:
    run = log.accept()
    log.append(parked(run, reason="definition_changed"))
    return log.append(started(run, "plan"))


@plant("paused-run-starts-no-attempt")
def a_paused_run_that_goes_on(log: Log) -> int:
    run = log.accept()
    log.append(e.RunPaused(source=log.command(), run_id=run, by="test", reason=""))
    return log.append(started(run, "plan"))


@plant("parking-tells-what-the-log-shows")
def a_run_that_is_parked_for_losses_it_did_not_have(log: Log) -> int:
    run = log.accept()
    log.append(started(run, "plan"))
    first = log.epoch
    log.claim("worker-2")
    log.append(lost(run, "plan", 1, first))
    return log.append(parked(run, "plan", lost=3))


# Timers


@plant("timer-is-set-once")
def a_timer_that_is_set_again_after_it_fired(log: Log) -> int:
    run = log.accept()
    due = log.now
    log.append(timer_set(run, "nap", due))
    log.append(timer_fired(run, "nap", due))
    return log.append(timer_set(run, "nap", due))


@plant("timer-fires-once")
def a_timer_that_fires_twice(log: Log) -> int:
    run = log.accept()
    due = log.now
    log.append(timer_set(run, "nap", due))
    log.append(timer_fired(run, "nap", due))
    return log.append(timer_fired(run, "nap", due))


@plant("timer-fires-once")
def a_timer_that_was_never_set(log: Log) -> int:
    run = log.accept()
    return log.append(timer_fired(run, "nap", log.now))


@plant("timer-fires-once")
def a_timer_that_fires_for_another_time_than_it_was_set_for(log: Log) -> int:
    run = log.accept()
    log.append(timer_set(run, "nap", log.now))
    return log.append(timer_fired(run, "nap", log.now - HOUR_MS))


@plant("timer-waits-for-its-time")
def a_timer_that_fires_an_hour_early(log: Log) -> int:
    run = log.accept()
    due = log.now + HOUR_MS
    log.append(timer_set(run, "nap", due))
    return log.append(timer_fired(run, "nap", due))


@plant("only-a-set-timer-is-cancelled")
def a_timer_that_is_cancelled_and_was_never_set(log: Log) -> int:
    run = log.accept()
    return log.append(e.TimerCancelled(run_id=run, timer_id="timer"))


# Waits and signals


@plant("wait-opens-once")
def a_wait_that_opens_again_after_its_signal_came(log: Log) -> int:
    run = log.accept()
    log.append(wait_opened(run))
    log.append(wait_resolved(run, source=log.command()))
    return log.append(wait_opened(run))


@plant("wait-ends-once")
def a_wait_that_ends_twice(log: Log) -> int:
    run = log.accept()
    log.append(wait_opened(run))
    log.append(wait_resolved(run, source=log.command()))
    return log.append(e.WaitExpired(run_id=run, wait_id="approval"))


@plant("wait-ends-once")
def a_wait_that_never_opened(log: Log) -> int:
    run = log.accept()
    return log.append(wait_resolved(run, source=log.command()))


@plant("signal-is-delivered-once")
def a_signal_that_ends_two_waits(log: Log) -> int:
    run = log.accept()
    log.append(buffered(run, log.command()))
    log.append(wait_opened(run))
    log.append(wait_opened(run, "approval#2"))
    log.append(wait_resolved(run))
    return log.append(wait_resolved(run, "approval#2"))


@plant("delivery-is-of-a-signal-that-came")
def a_signal_that_nobody_sent(log: Log) -> int:
    run = log.accept()
    log.append(wait_opened(run))
    return log.append(wait_resolved(run))


@plant("delivery-is-of-a-signal-that-came")
def a_signal_of_another_name(log: Log) -> int:
    run = log.accept()
    log.append(buffered(run, log.command(), name="refusal"))
    log.append(wait_opened(run))
    return log.append(wait_resolved(run))


@plant("wait-for-a-signal-ends-by-one")
def a_wait_that_ends_without_its_signal(log: Log) -> int:
    run = log.accept()
    log.append(wait_opened(run))
    return log.append(wait_resolved(run, signal_id=""))


@plant("only-a-waiting-signal-expires")
def a_signal_that_expires_and_never_came(log: Log) -> int:
    run = log.accept()
    return log.append(e.SignalExpired(run_id=run, signal_id="signal-1", name="approval"))
