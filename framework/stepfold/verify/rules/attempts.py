"""Steps and their attempts: I1 (only what counts is acted upon), I4 and I5.

An attempt begins with AttemptStarted and ends once. Numbers run 1, 2, 3…; the next one
begins only when the one before has ended, and nothing of a step follows its end.
"""

from __future__ import annotations

from typing import TypeAlias

from stepfold.core import events as e
from stepfold.verify.rule import CLOCK_TOLERANCE_MS, Scope, rule
from stepfold.verify.story import Moment, StepState

AttemptEnd: TypeAlias = (
    e.StepCompleted | e.AttemptFailed | e.AttemptTimedOut | e.AttemptLost | e.AttemptCancelled
)
Reported: TypeAlias = e.StepCompleted | e.AttemptFailed | e.AttemptTimedOut
"""Ends that the attempt itself brought about, so that it must have run."""


@rule("I4")
def step_completes_once(event: e.StepCompleted, now: Moment) -> str | None:
    if now.step is None or now.step.state is not StepState.COMPLETED:
        return None
    return f"the step completed again; it had completed at offset {now.step.offset}"


@rule("I4")
def nothing_of_a_step_follows_its_end(
    event: e.AttemptStarted | AttemptEnd, now: Moment
) -> str | None:
    step = now.step
    if step is None or not step.is_over:
        return None
    if step.state is StepState.COMPLETED and isinstance(event, e.StepCompleted):
        return None  # that it completes twice is a rule of its own
    return (
        f"{type(event).__name__} of attempt {event.attempt} comes after the step"
        f" {step.state.name.lower()} at offset {step.offset}"
    )


@rule("I4")
def end_of_an_attempt_follows_its_start(event: AttemptEnd, now: Moment) -> str | None:
    if now.run is None or not now.run.is_whole:
        return None
    if now.step is not None and (now.step.is_over or event.attempt <= now.step.attempt):
        return None
    return f"{type(event).__name__} of attempt {event.attempt}, which never started"


@rule("I5")
def attempt_ends_once(event: AttemptEnd, now: Moment) -> str | None:
    step = now.step
    if step is None or step.is_over or event.attempt > step.attempt:
        return None
    is_latest = event.attempt == step.attempt
    if is_latest and step.state is StepState.OPEN:
        return None
    if is_latest and isinstance(event, e.AttemptCancelled):
        return None  # the step was given up while its next attempt was due later
    return (
        f"{type(event).__name__} of attempt {event.attempt}, which had ended already;"
        f" the latest is attempt {step.attempt}"
    )


@rule("I5")
def attempts_are_numbered_without_gaps(event: e.AttemptStarted, now: Moment) -> str | None:
    if now.step is None and (now.run is None or not now.run.is_whole):
        return None
    expected = 1 if now.step is None else now.step.attempt + 1
    if event.attempt == expected:
        return None
    return f"attempt {event.attempt} started, where attempt {expected} had to come"


@rule("I5")
def one_attempt_is_open_at_a_time(event: e.AttemptStarted, now: Moment) -> str | None:
    if now.step is None or now.step.state is not StepState.OPEN:
        return None
    return (
        f"attempt {event.attempt} started while attempt {now.step.attempt}, started at offset"
        f" {now.step.offset}, had not ended"
    )


@rule("R21")
def retry_waits_for_its_time(event: e.AttemptStarted, now: Moment) -> str | None:
    if now.step is None or now.timestamp + CLOCK_TOLERANCE_MS >= now.step.next_at:
        return None
    early = now.step.next_at - now.timestamp
    return f"attempt {event.attempt} started {early} ms before it was due"


@rule("I5")
def final_failure_names_no_next_attempt(event: e.AttemptFailed, now: Moment) -> str | None:
    if event.retryable or not event.next_at:
        return None
    return f"attempt {event.attempt} failed for good, and yet a next attempt is named"


@rule("R21")
def time_out_takes_its_time(event: e.AttemptTimedOut, now: Moment) -> str | None:
    step = now.step
    if step is None or step.attempt != event.attempt or step.state is not StepState.OPEN:
        return None
    if not step.timeout_at:
        return f"attempt {event.attempt} timed out, and had no time limit"
    if now.timestamp + CLOCK_TOLERANCE_MS >= step.timeout_at:
        return None
    early = step.timeout_at - now.timestamp
    return f"attempt {event.attempt} timed out {early} ms before its limit"


@rule("I5")
def losses_are_counted_one_by_one(event: e.AttemptLost, now: Moment) -> str | None:
    """One that the step cannot have caused is not counted: see rule R19."""
    step = now.step
    if step is None or event.lost == step.lost + 1:
        return None
    is_excused = step.is_isolated or now.shard.drained_at > step.epoch.offset
    if is_excused and event.lost == step.lost:
        return None
    return (
        f"attempt {event.attempt} is counted as loss number {event.lost}; the log shows"
        f" {step.lost} before it"
    )


@rule("I5")
def attempt_is_lost_with_its_owner(event: e.AttemptLost, now: Moment) -> str | None:
    step = now.step
    if step is None or step.attempt != event.attempt or step.state is not StepState.OPEN:
        return None
    if step.epoch == now.epoch and not step.is_isolated:
        return f"attempt {event.attempt} is called lost by the owner that started it"
    if (event.prev_epoch_offset, event.prev_epoch_nonce) != step.epoch:
        return (
            f"attempt {event.attempt} is called lost with the epoch claimed at offset"
            f" {event.prev_epoch_offset}; it was started under that of offset {step.epoch.offset}"
        )
    return None


@rule("I5")
def only_who_runs_an_attempt_reports_it(event: Reported, now: Moment) -> str | None:
    """A process that lost the shard and took it again may have gone on with its attempts."""
    step = now.step
    if step is None or step.epoch == now.epoch or step.attempt != event.attempt:
        return None
    runner, reporter = now.shard.claimant_of(step.epoch), now.shard.claimant_of(now.epoch)
    if runner is None or runner == reporter or step.state is not StepState.OPEN:
        return None
    return (
        f"{type(event).__name__} of attempt {event.attempt} comes from {reporter}, and it was"
        f" {runner} that started it"
    )


@rule("I1")
def unproven_start_is_not_acted_upon(
    event: e.StepCompleted | e.AttemptTimedOut, now: Moment
) -> str | None:
    """A later claim of the same process proves it after all: what it folds up to there counts."""
    step = now.step
    if step is None or step.is_proven or step.attempt != event.attempt:
        return None
    if step.state is not StepState.OPEN or step.epoch != now.epoch:
        return None
    return (
        f"attempt {event.attempt} ran, though its start at offset {step.offset} lies elsewhere"
        " than its writer had to expect, and so could not be proven"
    )


@rule("I1", Scope.ALL)
def void_start_is_not_acted_upon(
    event: e.StepCompleted | e.AttemptTimedOut, now: Moment
) -> str | None:
    starts = now.shard.void_starts
    if not starts or (now.epoch, event.run_id, event.step, event.attempt) not in starts:
        return None
    return (
        f"attempt {event.attempt} ran, though its start under the epoch claimed at offset"
        f" {now.epoch.offset} does not count"
    )
