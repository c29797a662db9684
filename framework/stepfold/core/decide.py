"""Which events a command produces, given the folded state.

One function for each command. A repeated or late command yields no events rather than
an error: delivery is at least once, so a duplicate is normal. Nothing here looks at a
clock; `now` is broker time in milliseconds and comes in as data.
"""

from __future__ import annotations

from stepfold.core import events as e
from stepfold.core.ids import NO_POSITION
from stepfold.core.retry import Retry, next_attempt_at
from stepfold.core.run import Run, RunStatus, Step, StepStatus
from stepfold.core.shard import Shard

LOST_MAX = 25
"""Lost attempts of one step before its run is parked. It is generous as long as a
suspect shares its process with others, which are lost along with it."""


# Attempts


def start_attempt(
    run: Run, step_id: str, *, payload: bytes, timeout_ms: int | None, worker_id: str, now: int
) -> tuple[e.AttemptStarted, ...]:
    """The next attempt of a step that was never tried, or whose back-off is over."""
    step = run.steps.get(step_id)
    if run.status is not RunStatus.OPEN or (
        step is not None and step.status is not StepStatus.BACKOFF
    ):
        return ()
    attempt = step.attempt + 1 if step else 1
    return (
        e.AttemptStarted(
            run_id=run.run_id,
            step=step_id,
            attempt=attempt,
            token=f"{run.run_id}:{step_id}:{attempt}",
            payload=b"" if step else payload,
            payload_encoding="none" if step or not payload else "json",
            key_id="",
            timeout_at=0 if timeout_ms is None else now + timeout_ms,
            isolated=False,
            worker_id=worker_id,
        ),
    )


def complete_attempt(
    run: Run, step_id: str, attempt: int, *, payload: bytes, took_ms: int
) -> tuple[e.StepCompleted, ...]:
    if _open_attempt(run, step_id, attempt) is None:
        return ()
    return (
        e.StepCompleted(
            run_id=run.run_id,
            step=step_id,
            attempt=attempt,
            payload=payload,
            payload_encoding="json",
            key_id="",
            took_ms=took_ms,
        ),
    )


def fail_attempt(
    run: Run,
    step_id: str,
    attempt: int,
    *,
    error: tuple[str, str, str],
    policy: Retry | None,
    delay_ms: int | None,
    took_ms: int,
    now: int,
) -> tuple[e.AttemptFailed, ...]:
    """Policy None: not retryable. delay_ms: from RetryAfter. error: type, message, stack."""
    step = _open_attempt(run, step_id, attempt)
    if step is None:
        return ()
    error_type, error_message, error_stack = error
    return (
        e.AttemptFailed(
            run_id=run.run_id,
            step=step_id,
            attempt=attempt,
            error_type=error_type,
            error_message=error_message,
            error_stack=error_stack,
            retryable=policy is not None,
            next_at=_next_at(run, step_id, step, policy, now, delay_ms),
            took_ms=took_ms,
        ),
    )


def time_out_attempt(
    run: Run, step_id: str, attempt: int, *, reason: str, policy: Retry, took_ms: int, now: int
) -> tuple[e.AttemptTimedOut, ...]:
    step = _open_attempt(run, step_id, attempt)
    if step is None:
        return ()
    return (
        e.AttemptTimedOut(
            run_id=run.run_id,
            step=step_id,
            attempt=attempt,
            reason=reason,
            next_at=_next_at(run, step_id, step, policy, now, None),
            took_ms=took_ms,
        ),
    )


def _next_at(
    run: Run, step_id: str, step: Step, policy: Retry | None, now: int, delay_ms: int | None
) -> int:
    if policy is None or run.cancel_reason is not None:
        return 0
    due = next_attempt_at(
        policy,
        failures=step.failed + 1,
        first_started_at=step.first_started_at,
        now=now,
        identity=f"{run.run_id}:{step_id}:{step.attempt}",
        delay_ms=delay_ms,
    )
    return due or 0


def lose_attempts(shard: Shard, run: Run) -> tuple[e.AttemptLost | e.RunParked, ...]:
    """What a new owner says of the attempts that were open under older epochs (rule R19)."""
    lost = tuple(
        e.AttemptLost(
            run_id=run.run_id,
            step=step_id,
            attempt=step.attempt,
            lost=step.lost + 1,
            prev_epoch_offset=step.epoch.offset,
            prev_epoch_nonce=step.epoch.nonce,
        )
        for step_id, step in run.steps.items()
        if step.status is StepStatus.OPEN and step.epoch != shard.chain.epoch
    )
    worst = max(lost, key=lambda event: event.lost, default=None)
    if worst is None or worst.lost < LOST_MAX or run.status is not RunStatus.OPEN:
        return lost
    message = f"step {worst.step!r} lost its process {worst.lost} times"
    return (*lost, park(run, "poison", message, worst.step, lost=worst.lost))


def park(run: Run, reason: str, message: str, step_id: str, *, lost: int = 0) -> e.RunParked:
    """step_id: empty where it is not about one. lost: its lost attempts, as evidence."""
    step = run.steps.get(step_id)
    return e.RunParked(
        run_id=run.run_id,
        reason=reason,
        message=message,
        step=step_id,
        lost=lost,
        failed=step.failed if step else 0,
    )


def cancel_attempt(run: Run, step_id: str, reason: str) -> tuple[e.AttemptCancelled, ...]:
    """The workflow gave the step up: its attempt, open or due later, will not count."""
    step = run.steps.get(step_id)
    if step is None or step.status not in (StepStatus.OPEN, StepStatus.BACKOFF):
        return ()
    return (
        e.AttemptCancelled(run_id=run.run_id, step=step_id, attempt=step.attempt, reason=reason),
    )


def _open_attempt(run: Run, step_id: str, attempt: int) -> Step | None:
    step = run.steps.get(step_id)
    if (
        step is None
        or step.status is not StepStatus.OPEN
        or step.attempt != attempt
        or run.is_terminal
    ):
        return None
    return step


# Time


def due_events(run: Run, now: int) -> tuple[e.TimerFired | e.WaitExpired, ...]:
    """Timers and waits of the folded state that are due."""
    if not run.timers and not run.waits:
        return ()
    fired = [
        e.TimerFired(run_id=run.run_id, timer_id=timer_id, due=due)
        for timer_id, due in run.timers.items()
        if due <= now
    ]
    expired = [
        e.WaitExpired(run_id=run.run_id, wait_id=wait_id)
        for wait_id, wait in run.waits.items()
        if 0 < wait.expires_at <= now
    ]
    return (*fired, *expired)


# Signals


def wait_for(run: Run, signal_name: str) -> str | None:
    """The wait that a signal of this name would end: the one that was opened first."""
    return next(
        (
            wait_id
            for wait_id, wait in run.waits.items()
            if wait.kind == "signal" and wait.name == signal_name
        ),
        None,
    )


def buffered_deliveries(run: Run) -> tuple[e.WaitResolved, ...]:
    """Buffered signals that somebody waits for by now, oldest first."""
    if not run.signals or not run.waits:
        return ()
    left = list(run.signals)
    resolved: list[e.WaitResolved] = []
    for wait_id, wait in run.waits.items():
        signal = next((s for s in left if wait.kind == "signal" and s.name == wait.name), None)
        if signal is not None:
            left.remove(signal)
            resolved.append(
                e.WaitResolved(
                    source=NO_POSITION,
                    run_id=run.run_id,
                    wait_id=wait_id,
                    signal_id=signal.id,
                    payload=signal.payload,
                    payload_encoding=signal.payload_encoding,
                    key_id="",
                )
            )
    return tuple(resolved)
