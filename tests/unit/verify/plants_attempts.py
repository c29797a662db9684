"""Planted violations of what steps and attempts may do."""

from __future__ import annotations

import dataclasses

from stepfold.core import events as e
from stepfold.core.ids import Epoch
from tests.unit.verify.logs import (
    HOUR_MS,
    Log,
    cancelled,
    completed,
    failed,
    lost,
    started,
    timed_out,
)
from tests.unit.verify.plants import plant


@plant("step-completes-once")
def a_forged_second_completion(log: Log) -> int:
    run = log.accept()
    log.append(started(run, "plan"))
    log.append(completed(run, "plan"))
    return log.append(completed(run, "plan"))


@plant("nothing-of-a-step-follows-its-end")
def an_attempt_after_the_completion(log: Log) -> int:
    run = log.accept()
    log.append(started(run, "plan"))
    log.append(completed(run, "plan"))
    return log.append(started(run, "plan", 2))


@plant("nothing-of-a-step-follows-its-end")
def a_completion_after_the_last_failure(log: Log) -> int:
    run = log.accept()
    log.append(started(run, "plan"))
    log.append(failed(run, "plan", next_at=0))
    return log.append(completed(run, "plan"))


@plant("nothing-of-a-step-follows-its-end")
def an_attempt_of_a_step_that_was_given_up(log: Log) -> int:
    run = log.accept()
    log.append(started(run, "plan"))
    log.append(cancelled(run, "plan"))
    return log.append(started(run, "plan", 2))


@plant("end-of-an-attempt-follows-its-start")
def a_completion_without_a_start(log: Log) -> int:
    run = log.accept()
    return log.append(completed(run, "plan"))


@plant("end-of-an-attempt-follows-its-start")
def a_failure_of_an_attempt_that_is_still_to_come(log: Log) -> int:
    run = log.accept()
    log.append(started(run, "plan"))
    return log.append(failed(run, "plan", 2, next_at=log.now))


@plant("attempt-ends-once")
def a_result_of_a_lost_attempt(log: Log) -> int:
    run = log.accept()
    log.append(started(run, "plan"))
    first = log.epoch
    log.claim("worker-2")
    log.append(lost(run, "plan", 1, first))
    log.append(started(run, "plan", 2))
    return log.append(completed(run, "plan", 1))


@plant("attempt-ends-once")
def a_second_failure_of_one_attempt(log: Log) -> int:
    run = log.accept()
    log.append(started(run, "plan"))
    log.append(failed(run, "plan", next_at=log.now))
    return log.append(failed(run, "plan", next_at=log.now))


@plant("attempts-are-numbered-without-gaps")
def a_first_attempt_with_number_two(log: Log) -> int:
    run = log.accept()
    return log.append(started(run, "plan", 2))


@plant("attempts-are-numbered-without-gaps")
def an_attempt_that_leaves_a_number_out(log: Log) -> int:
    run = log.accept()
    log.append(started(run, "plan"))
    log.append(failed(run, "plan", next_at=log.now))
    return log.append(started(run, "plan", 3))


@plant("one-attempt-is-open-at-a-time")
def a_start_while_the_last_attempt_is_open(log: Log) -> int:
    run = log.accept()
    log.append(started(run, "plan"))
    return log.append(started(run, "plan", 2))


@plant("retry-waits-for-its-time")
def a_retry_an_hour_early(log: Log) -> int:
    run = log.accept()
    log.append(started(run, "plan"))
    log.append(failed(run, "plan", next_at=log.now + HOUR_MS))
    return log.append(started(run, "plan", 2))


@plant("final-failure-names-no-next-attempt")
def a_final_failure_with_a_next_attempt(log: Log) -> int:
    run = log.accept()
    log.append(started(run, "plan"))
    return log.append(failed(run, "plan", next_at=log.now, retryable=False))


@plant("time-out-takes-its-time")
def a_time_out_before_its_limit(log: Log) -> int:
    run = log.accept()
    log.append(started(run, "plan", timeout_at=log.now + HOUR_MS))
    return log.append(timed_out(run, "plan"))


@plant("time-out-takes-its-time")
def a_time_out_of_an_attempt_without_a_limit(log: Log) -> int:
    run = log.accept()
    log.append(started(run, "plan"))
    return log.append(timed_out(run, "plan"))


@plant("losses-are-counted-one-by-one")
def a_loss_that_is_counted_as_the_third(log: Log) -> int:
    run = log.accept()
    log.append(started(run, "plan"))
    first = log.epoch
    log.claim("worker-2")
    return log.append(lost(run, "plan", 1, first, times=3))


@plant("losses-are-counted-one-by-one")
def a_loss_of_a_crashed_owner_that_is_not_counted(log: Log) -> int:
    run = log.accept()
    log.append(started(run, "plan"))
    first = log.epoch
    log.claim("worker-2")
    return log.append(lost(run, "plan", 1, first, times=0))


@plant("attempt-is-lost-with-its-owner")
def a_loss_under_the_epoch_of_the_start(log: Log) -> int:
    run = log.accept()
    log.append(started(run, "plan"))
    return log.append(lost(run, "plan", 1, log.epoch))


@plant("attempt-is-lost-with-its-owner")
def a_loss_that_names_another_epoch(log: Log) -> int:
    run = log.accept()
    log.append(started(run, "plan"))
    log.claim("worker-2")
    return log.append(lost(run, "plan", 1, Epoch(0, 4711)))


@plant("only-who-runs-an-attempt-reports-it")
def a_result_that_another_worker_reports(log: Log) -> int:
    run = log.accept()
    log.append(started(run, "plan"))
    log.claim("worker-2")
    return log.append(completed(run, "plan"))


@plant("unproven-start-is-not-acted-upon")
def a_result_of_a_start_that_lies_elsewhere_than_expected(log: Log) -> int:
    run = log.accept()
    former = log.epoch
    log.write(completed(run, "other"), epoch=former, seq=0)  # a duplicate, which shifts the rest
    log.append(started(run, "plan"))
    return log.append(completed(run, "plan"))


@plant("void-start-is-not-acted-upon")
def a_void_result_of_a_void_start(log: Log) -> int:
    run = log.accept()
    former, seq = log.epoch, log.seq
    log.claim("worker-2")
    log.write(started(run, "plan"), epoch=former, seq=seq)
    return log.write(completed(run, "plan"), epoch=former, seq=seq + 1)


@plant("payload-encoding-is-known")
def a_result_in_an_encoding_that_nobody_knows(log: Log) -> int:
    run = log.accept()
    log.append(started(run, "plan"))
    event: e.StepCompleted = dataclasses.replace(completed(run, "plan"), payload_encoding="pickle")
    return log.append(event)
