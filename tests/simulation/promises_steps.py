"""Promises 1, 3, 5 and 6, invariants I1, I4 and I5: steps, attempts, and the code that ran."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pydantic_core

from stepfold.core import events as e
from tests.simulation.evidence import Evidence
from tests.simulation.stage import Ending, Execution
from tests.simulation.story import Entry, RunStory, kind_of

CLOCK_MS = 100
"""How far a worker's idea of broker time may be ahead: its dead zone, and the brokers' own."""
ECHO = {"name": "echo", "attempts": 3, "timeout": 0}


@dataclass(slots=True)
class _Step:
    spec: dict[str, Any]
    status: str = "open"
    attempt: int = 1
    failed: int = 0
    lost: int = 0
    next_at: int = 0
    owner: tuple[int, int] = (-1, 0)


@dataclass(slots=True)
class _Rules:
    """Of one run: what each event of a step may follow on."""

    run: RunStory
    steps: dict[str, _Step] = field(default_factory=dict[str, _Step])
    is_paused: bool = False
    is_cancelled: bool = False

    def take(self, entry: Entry) -> Iterator[str]:
        match entry.event:
            case e.AttemptStarted() as started:
                yield from self._started(entry, started)
            case e.AttemptLost() as lost:
                yield from self._lost(entry, lost)
            case e.AttemptFailed() | e.AttemptTimedOut() as failed:
                yield from self._failed(failed)
            case e.StepCompleted() as completed:
                yield from self._ends(completed.step, completed.attempt, "completed", ("open",))
            case e.AttemptCancelled() as gone:
                yield from self._ends(gone.step, gone.attempt, "cancelled", ("open", "backoff"))
            case e.RunPaused():
                self.is_paused = True
            case e.RunResumed():
                self.is_paused = False
            case e.CancelRequested():
                self.is_cancelled = True
            case _:
                pass

    def _started(self, entry: Entry, event: e.AttemptStarted) -> Iterator[str]:
        step = self.steps.get(event.step)
        if self.is_paused:
            yield f"{event.step}: attempt {event.attempt} started while the run was paused"
        if step is None:
            if event.attempt != 1:
                yield f"{event.step}: began with attempt {event.attempt}"
            self.steps[event.step] = _Step(_spec_of(event), owner=entry.owner)
            return
        if step.status != "backoff" or event.attempt != step.attempt + 1:
            yield (
                f"{event.step}: attempt {event.attempt} started, attempt {step.attempt} was"
                f" {step.status}"
            )
        if entry.stamp < step.next_at - CLOCK_MS:
            early = step.next_at - entry.stamp
            yield f"{event.step}: attempt {event.attempt} started {early} ms early"
        step.status, step.attempt, step.owner = "open", event.attempt, entry.owner

    def _lost(self, entry: Entry, event: e.AttemptLost) -> Iterator[str]:
        yield from self._ends(event.step, event.attempt, "backoff", ("open",))
        step = self.steps.get(event.step)
        if step is None:
            return
        step.lost += 1
        step.next_at = 0
        if event.lost != step.lost:
            yield f"{event.step}: {event.lost} attempts are said to be lost, {step.lost} are"
        if entry.owner == step.owner:
            yield f"{event.step}: attempt {event.attempt} is said to be lost by who started it"

    def _failed(self, event: e.AttemptFailed | e.AttemptTimedOut) -> Iterator[str]:
        yield from self._ends(event.step, event.attempt, "backoff", ("open",))
        step = self.steps.get(event.step)
        if step is None:
            return
        step.failed += 1
        step.next_at = event.next_at
        attempts: int = step.spec["attempts"]
        is_final = event.next_at == 0
        may_retry = isinstance(event, e.AttemptTimedOut) or event.retryable
        if is_final:
            step.status = "failed"
        if is_final and may_retry and step.failed < attempts and not self.is_cancelled:
            yield f"{event.step}: given up after {step.failed} of {attempts} failures"
        if not is_final and (step.failed >= attempts or not may_retry):
            yield f"{event.step}: tried again after {step.failed} of {attempts} failures"

    def _ends(
        self, step_id: str, attempt: int, status: str, before: tuple[str, ...]
    ) -> Iterator[str]:
        step = self.steps.get(step_id)
        if step is None:
            yield f"{step_id}: {status}, and never started"
            return
        if step.status not in before or step.attempt != attempt:
            yield f"{step_id}: attempt {attempt} {status}, {step.attempt} was {step.status}"
        step.status = status


def _spec_of(event: e.AttemptStarted) -> dict[str, Any]:
    given = pydantic_core.from_json(event.payload)["args"]
    return given[0] if isinstance(given[0], dict) else ECHO


def attempts_follow_the_rules(evidence: Evidence) -> Iterator[str]:
    for run in evidence.runs():
        rules = _Rules(run)
        for entry in run.entries:
            for problem in rules.take(entry):
                yield f"run {run.run_id}, event {entry.offset}: {problem}"


# What ran


def executions_have_proof(evidence: Evidence) -> Iterator[str]:
    """Nothing runs that is not, for ever, on the log; and each attempt runs once."""
    started: dict[tuple[str, str, int], Entry] = {}
    completed: dict[tuple[str, str], Entry] = {}
    lost: set[tuple[str, str, int]] = set()
    for run in evidence.runs():
        for entry in run.entries:
            match entry.event:
                case e.AttemptStarted() as event:
                    started[run.run_id, event.step, event.attempt] = entry
                case e.StepCompleted() as event:
                    completed[run.run_id, event.step] = entry
                case e.AttemptLost() as event:
                    lost.add((run.run_id, event.step, event.attempt))
                case _:
                    pass
    for key, executions in evidence.executions().items():
        if len(executions) > 1:
            yield f"attempt {key} ran {len(executions)} times"
        for execution in executions:
            yield from _proof(execution, started.get(key))
            done = completed.get(key[:2])
            # A process that stood still between the proof and the code cannot know that
            # others went on; that is why tools get an idempotency key.
            if done is not None and execution.began_us > done.landed_us and key not in lost:
                yield f"attempt {key} began after its step was completed"


def _proof(execution: Execution, entry: Entry | None) -> Iterator[str]:
    key = (execution.run_id, execution.step, execution.attempt)
    if entry is None or not isinstance(entry.event, e.AttemptStarted):
        yield f"attempt {key} ran in {execution.process} and does not count in the history"
        return
    if entry.landed_us > execution.began_us:
        yield f"attempt {key} ran before its start was on the log"
    if entry.event.worker_id != execution.process:
        yield f"attempt {key} of {entry.event.worker_id} ran in {execution.process}"


def outcomes_are_what_the_code_did(evidence: Evidence) -> Iterator[str]:
    executions = evidence.executions()
    for run in evidence.runs():
        for entry in run.entries:
            event = entry.event
            if isinstance(event, e.StepCompleted | e.AttemptFailed | e.AttemptTimedOut):
                ran = executions.get((run.run_id, event.step, event.attempt), [])
                if not any(_explains(execution, entry) for execution in ran):
                    what = f"{kind_of(event)} of {event.step}, attempt {event.attempt}"
                    yield f"run {run.run_id}, event {entry.offset}: {what}: the code did not"


def _explains(execution: Execution, entry: Entry) -> bool:
    if execution.ended_us > entry.landed_us:
        return False
    match entry.event:
        case e.StepCompleted(payload=payload):
            value = pydantic_core.from_json(payload)
            told = repr(value) if execution.spec["name"] == "echo" else value
            return execution.ending is Ending.RETURNED and execution.value == told
        case e.AttemptFailed(error_type=error_type):
            return execution.ending is Ending.RAISED and execution.value == error_type
        case _:
            took_us = execution.ended_us - execution.began_us
            return (
                execution.ending is Ending.CANCELLED
                and took_us >= execution.spec["timeout"] * 1_000 - 1_000
            )


def nothing_runs_twice_at_once(evidence: Evidence) -> Iterator[str]:
    """Of one step, in one process; two processes may, when one is taken for dead."""
    last: dict[tuple[str, str, str], Execution] = {}
    alive = {process.name for process in evidence.fleet.alive}
    for execution in evidence.stage.executions:
        place = (execution.process, execution.run_id, execution.step)
        before = last.get(place)
        last[place] = execution
        if before is None:
            continue
        is_running = before.ending is Ending.RUNNING and execution.process in alive
        if is_running or before.ended_us > execution.began_us:
            yield (
                f"{execution.step} of {execution.run_id}: attempt {execution.attempt} began in"
                f" {execution.process} while attempt {before.attempt} ran there"
            )
