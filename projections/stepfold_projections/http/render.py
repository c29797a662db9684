"""Rows, traces and events as the API's models."""

from __future__ import annotations

import base64
import dataclasses
import json
from datetime import UTC, datetime
from typing import Any, cast

from stepfold.core import events as e
from stepfold.core.ids import Epoch, Position
from stepfold_projections.http import models as m
from stepfold_projections.runs import RunRow
from stepfold_projections.stalled import stalled_reason
from stepfold_projections.trace import (
    AttemptTrace,
    Failure,
    RunTrace,
    StepTrace,
    TimerTrace,
    WaitTrace,
)

NEVER = 0


def summary_of(row: RunRow, now_ms: int) -> m.RunSummary:
    return m.RunSummary(**_summary(row, now_ms))


def _summary(row: RunRow, now_ms: int) -> dict[str, Any]:
    has_error = bool(row.error_type) and row.status in ("failed", "parked", "backoff")
    return {
        "id": row.run_id,
        "app": row.app,
        "workflow": row.workflow,
        "status": row.status,
        "tenant": row.tenant,
        "event_name": row.event_name,
        "event_id": row.event_id,
        "idempotency_key": row.idempotency_key,
        "accepted_at": _time(row.accepted_at),
        "started_at": _time_or_none(row.started_at),
        "ended_at": _time_or_none(row.ended_at),
        "updated_at": _time(row.updated_at),
        "duration_ms": row.ended_at - row.accepted_at if row.is_over else None,
        "steps_total": row.steps,
        "steps_completed": row.steps_completed,
        "attempts_total": row.attempts,
        "failures": row.failures,
        "losses": row.losses,
        "error": m.Error(type=row.error_type, message=row.error_message) if has_error else None,
        "reason": row.reason,
        "partition": row.partition,
        "waiting_for": [
            m.OpenWaitModel(kind=w.kind, name=w.name, expires_at=_time_or_none(w.expires_at))
            for w in row.waits.values()
        ],
        "stalled": stalled_reason(row, now_ms),
    }


def detail_of(trace: RunTrace, now_ms: int) -> m.RunDetail:
    row, source, parent = trace.row, trace.accepted.source, trace.accepted.parent
    fields = _summary(row, now_ms)
    if trace.error is not None:
        fields["error"] = _error(trace.error)
    history = f"{row.app}.history"
    return m.RunDetail(
        **fields,
        input=_value(trace.input),
        output=_value(trace.output),
        steps=[_step(step) for step in trace.steps.values()],
        waits=[_wait(wait) for wait in trace.waits.values()],
        timers=[_timer(timer) for timer in trace.timers.values()],
        signals=[
            m.SignalModel(
                id=s.signal_id, name=s.name, at=_time(s.at), status=s.status, value=_value(s.value)
            )
            for s in trace.signals.values()
        ],
        requests=[
            m.RequestModel(kind=r.kind, at=_time(r.at), by=r.by, reason=r.reason)
            for r in trace.requests
        ],
        rejections=[
            m.RejectionModel(at=_time(r.at), offset=r.offset, reason=r.reason)
            for r in trace.rejections
        ],
        trigger=m.KafkaPlace(
            topic=f"{row.app}.{'control' if parent.run_id else 'inbox'}",
            partition=source.partition,
            offset=source.offset,
        ),
        parent=m.ParentModel(id=parent.run_id, step=parent.step) if parent.run_id else None,
        first_event=m.KafkaPlace(
            topic=history, partition=row.partition, offset=row.accepted_offset
        ),
        last_event=m.KafkaPlace(topic=history, partition=row.partition, offset=row.last_offset),
    )


def event_of(record: e.Recorded) -> m.EventModel:
    event = record.event
    epoch = Epoch(*record.epoch)
    return m.EventModel(
        kind=type(event).__name__,
        at=_time(record.at),
        offset=record.offset,
        epoch=f"{epoch.offset}:{epoch.nonce}",
        seq=record.seq,
        fields={
            field.name: _field(getattr(event, field.name)) for field in dataclasses.fields(event)
        },
    )


def _step(step: StepTrace) -> m.Step:
    return m.Step(
        step=step.step,
        status=step.status,
        started_at=_time(step.started_at),
        ended_at=_time_or_none(step.ended_at),
        input=_value(step.input),
        output=_value(step.output),
        error=None if step.error is None else _error(step.error),
        attempts=[_attempt(attempt) for attempt in step.attempts],
    )


def _attempt(attempt: AttemptTrace) -> m.Attempt:
    return m.Attempt(
        number=attempt.number,
        status=attempt.status,
        started_at=_time(attempt.started_at),
        ended_at=_time_or_none(attempt.ended_at),
        took_ms=attempt.took_ms,
        error=None if attempt.error is None else _error(attempt.error),
        is_retryable=attempt.is_retryable,
        next_at=_time_or_none(attempt.next_at),
        worker_id=attempt.worker_id,
        offset=attempt.offset,
        end_offset=attempt.end_offset if attempt.end_offset >= 0 else None,
    )


def _wait(wait: WaitTrace) -> m.Wait:
    return m.Wait(
        id=wait.wait_id,
        kind=wait.kind,
        name=wait.name,
        status=wait.status,
        opened_at=_time(wait.opened_at),
        ended_at=_time_or_none(wait.ended_at),
        expires_at=_time_or_none(wait.expires_at),
        value=_value(wait.value),
        error=None if wait.error is None else _error(wait.error),
    )


def _timer(timer: TimerTrace) -> m.Timer:
    return m.Timer(
        id=timer.timer_id,
        purpose=timer.purpose,
        status=timer.status,
        set_at=_time(timer.set_at),
        due=_time(timer.due),
        ended_at=_time_or_none(timer.ended_at),
    )


def _error(failure: Failure) -> m.Error:
    return m.Error(type=failure.type, message=failure.message, stack=failure.stack)


def _time(at_ms: int) -> datetime:
    return datetime.fromtimestamp(at_ms / 1_000, UTC)


def _time_or_none(at_ms: int) -> datetime | None:
    return None if at_ms == NEVER else _time(at_ms)


def _value(payload: bytes) -> Any:
    """Recorded JSON; anything else as base64, so that it shows rather than hides."""
    if not payload:
        return None
    try:
        return json.loads(payload)
    except ValueError:
        return {"base64": base64.b64encode(payload).decode()}


def _field(value: object) -> Any:
    if isinstance(value, bytes):
        return _value(value)
    if isinstance(value, Position | e.RunStart):
        return value._asdict()
    if isinstance(value, tuple):
        return [_field(item) for item in cast("tuple[object, ...]", value)]
    return value
