"""Promises 2 and 5, invariants I2 and I7: runs end in time, as their plan allows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pydantic_core

from stepfold.core import events as e
from tests.simulation.evidence import Evidence
from tests.simulation.judgement import Judge, NotAllowedError
from tests.simulation.plans import nodes
from tests.simulation.promises_steps import CLOCK_MS
from tests.simulation.story import RunStory, kind_of
from tests.simulation.workflows import HURRY_MS


def runs_end_as_their_plan_allows(evidence: Evidence) -> Iterator[str]:
    for run in evidence.runs():
        for problem in _ending(run):
            yield f"run {run.run_id} ({run.start.workflow}): {problem}"


def _ending(run: RunStory) -> Iterator[str]:
    if run.ending is None:
        seen = ", ".join(kind_of(entry.event) for entry in run.entries[-3:])
        yield f"did not end; the last of it: {seen or 'its acceptance'}"
        return
    match run.ending.event:
        case e.RunCompleted(payload=payload):
            yield from _result(run, pydantic_core.from_json(payload))
        case e.RunFailed() as failed:
            yield from _failure(run, failed)
        case _:
            if not any(isinstance(entry.event, e.CancelRequested) for entry in run.entries):
                yield "was cancelled, and nobody had asked for it"


def _result(run: RunStory, result: Any) -> Iterator[str]:
    judge = Judge()
    try:
        judge.walk(run.order["plan"], result, "twin" if run.start.workflow == "twin" else "")
    except NotAllowedError as error:
        yield f"its plan does not allow its result: {error}"
        return
    given = Counter(
        repr(pydantic_core.from_json(entry.event.payload))
        for entry in run.entries
        if isinstance(entry.event, e.WaitResolved)
    )
    for value, times in Counter(map(repr, judge.signals)).items():
        if times > given[value]:
            yield f"received the signal {value} {times} times, it was delivered {given[value]}"


def _failure(run: RunStory, failed: e.RunFailed) -> Iterator[str]:
    assert run.ending is not None
    match failed.error_type:
        case "StepFailed":
            if not any(_is_final_failure(entry.event) for entry in run.entries):
                yield "failed by a step, and none of its steps failed for good"
        case "PlannedError":
            if not any(node["do"] == "fail" for node in nodes(run.order["plan"])):
                yield "failed as planned, and it was not planned"
        case "RunTimeout":
            took_ms = run.ending.stamp - run.start.deadline + HURRY_MS
            if not run.start.deadline or took_ms < HURRY_MS - CLOCK_MS:
                yield f"timed out after {took_ms} ms"
        case other:
            yield f"failed with {other}: {failed.error_message[-300:]}"


def _is_final_failure(event: e.Event) -> bool:
    match event:
        case e.AttemptFailed(next_at=next_at) | e.AttemptTimedOut(next_at=next_at):
            return next_at == 0
        case e.ChildResolved(outcome=outcome):
            return outcome in ("failed", "cancelled", "timed_out")
        case _:
            return False


def time_is_not_ahead(evidence: Evidence) -> Iterator[str]:
    """Timers fire when they are due and not before; no event is from the future."""
    for run in evidence.runs():
        for entry in run.entries:
            event = entry.event
            if entry.at > entry.stamp + CLOCK_MS:
                ahead = entry.at - entry.stamp
                what = f"run {run.run_id}, event {entry.offset}: {kind_of(event)}"
                yield f"{what} is {ahead} ms ahead"
            if isinstance(event, e.TimerFired) and entry.stamp < event.due - CLOCK_MS:
                early = event.due - entry.stamp
                yield f"run {run.run_id}: timer {event.timer_id} fired {early} ms early"
            if isinstance(event, e.RunParked):
                yield f"run {run.run_id} was parked: {event.reason}: {event.message[-400:]}"


def timers_are_set_and_fired_once(evidence: Evidence) -> Iterator[str]:
    for run in evidence.runs():
        once = Counter(
            (kind_of(entry.event), entry.event.timer_id)
            for entry in run.entries
            if isinstance(entry.event, e.TimerSet | e.TimerFired)
        )
        for (kind, timer_id), times in once.items():
            if times > 1:
                yield f"run {run.run_id}: {times} times {kind} of {timer_id}"


def cancelled_runs_end_cancelled(evidence: Evidence) -> Iterator[str]:
    for run in evidence.runs():
        asked = any(isinstance(entry.event, e.CancelRequested) for entry in run.entries)
        if not asked or run.ending is None or isinstance(run.ending.event, e.RunCancelled):
            continue
        # A TaskGroup that fails at that moment raises its failure in place of the cancellation.
        kinds = {node["do"] for node in nodes(run.order["plan"])}
        if "group" not in kinds:
            yield f"run {run.run_id} was to be cancelled: {kind_of(run.ending.event)}"
