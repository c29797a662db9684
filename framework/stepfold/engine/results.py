"""How an attempt's result, and the end of a workflow, are put into events."""

from __future__ import annotations

from stepfold.core import decide
from stepfold.core import events as e
from stepfold.core.children import resolution
from stepfold.core.ids import NO_POSITION
from stepfold.core.retry import Retry
from stepfold.core.run import Run
from stepfold.core.shard import Shard
from stepfold.engine.executor import PAYLOAD_BYTES_MAX, Ended, Failed, Succeeded, TimedOut
from stepfold.sdk.calls import Cancelled, Completed, End, Errored, Parked
from stepfold.sdk.failures import bounded

DEFINITION_WAIT = "definition"
"""The wait of a run whose workflow no worker here has."""


def result_events(run: Run, ended: Ended, policy: Retry, now: int) -> tuple[e.Event, ...]:
    """() when the attempt is not the open one any more: its result came too late."""
    key, took_ms = ended.key, ended.took_ms
    match ended.result:
        case Succeeded(payload=payload):
            return decide.complete_attempt(
                run, key.step, key.attempt, payload=payload, took_ms=took_ms
            )
        case TimedOut(timeout_ms=timeout_ms):
            return decide.time_out_attempt(
                run,
                key.step,
                key.attempt,
                reason=f"the attempt took longer than its timeout of {timeout_ms} ms",
                policy=policy,
                took_ms=took_ms,
                now=now,
            )
        case Failed() as failed:
            return decide.fail_attempt(
                run,
                key.step,
                key.attempt,
                error=(failed.error_type, failed.message, failed.stack),
                policy=policy if failed.retryable else None,
                delay_ms=failed.delay_ms,
                took_ms=took_ms,
                now=now,
            )


def ending(shard: Shard, run: Run, end: End) -> e.Event:
    """The event of a run's end; a parent that waits for it is told by the same one."""
    match end:
        case Completed(payload=payload):
            # To a parent it is delivered as well, and the delivery is in the same event.
            limit = PAYLOAD_BYTES_MAX // 2 if run.parent.step else PAYLOAD_BYTES_MAX
            if len(payload) > limit:
                message = (
                    f"payload_too_large: the result of workflow {run.workflow!r} has {len(payload)}"
                    f" bytes, the limit is {limit}; return a reference to it"
                )
                return _failed(shard, run, "PayloadTooLargeError", message, "")
            out = resolution(shard, run, "completed", payload=payload)
            return e.RunCompleted(
                run_id=run.run_id, payload=payload, payload_encoding="json", key_id="", out=out
            )
        case Errored():
            return _failed(shard, run, end.error_type, end.error_message, end.error_stack)
        case Cancelled(reason=reason):
            error = ("RunCancelled", reason or "no reason given")
            out = resolution(shard, run, "cancelled", error=error)
            return e.RunCancelled(run_id=run.run_id, reason=reason, out=out)
        case Parked():
            return decide.park(run, "definition_changed", bounded(end.message), end.step)


def _failed(shard: Shard, run: Run, error_type: str, message: str, stack: str) -> e.RunFailed:
    message = bounded(message)
    return e.RunFailed(
        run_id=run.run_id,
        error_type=error_type,
        error_message=message,
        error_stack=bounded(stack),
        out=resolution(shard, run, "failed", error=(error_type, message)),
    )


def definition_found(run: Run) -> e.WaitResolved:
    """The workflow that the run waited for is deployed."""
    return e.WaitResolved(
        source=NO_POSITION,
        run_id=run.run_id,
        wait_id=DEFINITION_WAIT,
        signal_id="",
        payload=b"",
        payload_encoding="none",
        key_id="",
    )
