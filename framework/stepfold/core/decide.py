"""Which events a command produces, given the folded state.

One function for each command. A repeated or late command yields no events rather than
an error: delivery is at least once, so a duplicate is normal. Nothing here looks at a
clock; `now` is broker time in milliseconds and comes in as data.
"""

from __future__ import annotations

from typing import TypeVar

from stepfold.core import commands as c
from stepfold.core import events as e
from stepfold.core.ids import Position, parse_run_id, short_topic_id
from stepfold.core.retry import Retry, next_attempt_at
from stepfold.core.run import Run, RunStatus, Step, StepStatus
from stepfold.core.shard import Shard, dedup_key

LOST_MAX = 25
"""Lost attempts of one step before its run is parked. It is generous as long as a
suspect shares its process with others, which are lost along with it."""
EARLY_SIGNAL_TTL_MS = 24 * 3_600_000
"""How long a signal is kept for a run that is not accepted yet."""
SIGNALS_WAITING_MAX = 1_000
"""Signals of one run that nobody waits for; further ones are rejected, visibly."""
EARLY_RUNS_MAX = 10_000
"""Runs of one shard for which commands came before their trigger."""
NO_POSITION = Position("", -1, -1, -1)
"""The source of an event that no source record caused."""


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
    produced: list[e.AttemptLost | e.RunParked] = []
    for step_id, step in run.steps.items():
        if step.status is not StepStatus.OPEN or step.epoch == shard.chain.epoch:
            continue
        lost = step.lost + 1
        produced.append(
            e.AttemptLost(
                run_id=run.run_id,
                step=step_id,
                attempt=step.attempt,
                lost=lost,
                prev_epoch_offset=step.epoch.offset,
                prev_epoch_nonce=step.epoch.nonce,
            )
        )
        if lost >= LOST_MAX and run.status is RunStatus.OPEN:
            message = f"step {step_id!r} lost its process {lost} times"
            produced.append(park(run, "poison", message, step_id))
            break
    return tuple(produced)


def park(run: Run, reason: str, message: str, step_id: str) -> e.RunParked:
    step = run.steps.get(step_id)
    return e.RunParked(
        run_id=run.run_id,
        reason=reason,
        message=message,
        step=step_id,
        lost=step.lost + 1 if step else 0,
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


# Signals and other control records


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


def control(shard: Shard, command: c.Control, source: Position, now: int) -> tuple[e.Event, ...]:
    """The one event that a control record becomes; () where only its position matters."""
    if isinstance(command, c.Nudge):
        return ()
    run = shard.runs.get(command.run_id)
    if run is None:
        return (_for_unknown_run(shard, command, source, now),)
    match command:
        case c.Signal():
            return (_signal(run, command, source),)
        case c.Cancel():
            if run.cancel_reason is not None:
                return ()
            return (_asked(e.CancelRequested, command, source),)
        case c.Pause():
            return () if run.paused else (_asked(e.RunPaused, command, source),)
        case c.Resume():
            if not run.paused and run.status is not RunStatus.PARKED:
                return ()
            return (_asked(e.RunResumed, command, source),)


Asked = TypeVar("Asked", e.CancelRequested, e.RunPaused, e.RunResumed)


def _asked(kind: type[Asked], command: c.Cancel | c.Pause | c.Resume, source: Position) -> Asked:
    return kind(source=source, run_id=command.run_id, by=command.by, reason=command.reason)


def _signal(run: Run, command: c.Signal, source: Position) -> e.Event:
    for wait_id, wait in run.waits.items():
        if wait.kind == "signal" and wait.name == command.name:
            return e.WaitResolved(
                source=source,
                run_id=run.run_id,
                wait_id=wait_id,
                signal_id=command.signal_id,
                payload=command.payload,
                payload_encoding=command.payload_encoding,
                key_id=command.key_id,
            )
    if len(run.signals) >= SIGNALS_WAITING_MAX:
        reason = f"{len(run.signals)} signals wait in this run already, none more is kept"
        return rejected(source, reason, run_id=run.run_id)
    return _buffer(command, source, ttl_at=0)


def _buffer(command: c.Signal, source: Position, ttl_at: int) -> e.SignalBuffered:
    return e.SignalBuffered(
        source=source,
        run_id=command.run_id,
        signal_id=command.signal_id,
        name=command.name,
        payload=command.payload,
        payload_encoding=command.payload_encoding,
        key_id=command.key_id,
        ttl_at=ttl_at,
    )


def _for_unknown_run(
    shard: Shard, command: c.Signal | c.Cancel | c.Pause | c.Resume, source: Position, now: int
) -> e.Event:
    """A run that is not open: over already, or not accepted yet (then the command waits for it).

    The run id tells which: it holds the offset of its trigger, and intake is in order.
    """
    try:
        address = parse_run_id(command.run_id)
    except ValueError as error:
        return rejected(source, str(error), run_id=command.run_id)
    if shard.opened is None or address.topic != short_topic_id(shard.opened.inbox_topic_id):
        return rejected(source, "the run id is of another inbox topic", run_id=command.run_id)
    if address.partition != source.partition:
        reason = f"the run is at home in partition {address.partition}, not {source.partition}"
        return rejected(source, reason, run_id=command.run_id)
    taken = shard.intake.get((shard.opened.inbox_topic_id, address.partition))
    if taken is not None and address.offset <= taken.offset:
        return rejected(source, "the run is over, or never was", run_id=command.run_id)
    if len(shard.early) >= EARLY_RUNS_MAX:
        reason = f"commands for {len(shard.early)} runs that are not accepted yet wait already"
        return rejected(source, reason, run_id=command.run_id)
    match command:
        case c.Signal():
            return _buffer(command, source, ttl_at=now + EARLY_SIGNAL_TTL_MS)
        case c.Cancel():
            return _asked(e.CancelRequested, command, source)
        case c.Pause():
            return _asked(e.RunPaused, command, source)
        case c.Resume():
            return _asked(e.RunResumed, command, source)


# Intake


def rejected(
    source: Position,
    reason: str,
    *,
    run_id: str = "",
    dlq: tuple[str, int, int] = ("", -1, -1),
    sha256: str = "",
) -> e.IntakeRejected:
    """dlq: the topic, partition and offset of the copy; empty when the record was readable."""
    topic, partition, offset = dlq
    return e.IntakeRejected(
        source=source,
        run_id=run_id,
        reason=reason,
        dlq_topic=topic,
        dlq_partition=partition,
        dlq_offset=offset,
        sha256=sha256,
    )


def accept(
    shard: Shard, app: str, trigger: c.Trigger, source: Position, runs: tuple[e.RunStart, ...]
) -> tuple[e.RunAccepted | e.RunDeduplicated, ...]:
    """What a trigger becomes that starts these runs; () when it starts none."""
    if not runs:
        return ()
    first = runs[0]
    key = trigger.idempotency_key or ("" if trigger.workflow else trigger.id)
    known = shard.known.get(dedup_key(trigger.workflow, key)) if key else None
    if known is not None:
        return (
            e.RunDeduplicated(
                source=source,
                run_id=first.run_id,
                idempotency_key=key,
                existing_run_id=known.run_id,
            ),
        )
    return (
        e.RunAccepted(
            source=source,
            run_id=first.run_id,
            app=app,
            event_name=trigger.name,
            event_id="" if trigger.workflow else trigger.id,
            payload=trigger.payload,
            payload_encoding=trigger.payload_encoding,
            key_id=trigger.key_id,
            runs=runs,
        ),
    )
