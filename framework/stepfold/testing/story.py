"""What the log of a sandbox tells of its runs: the engine's own fold, and the events behind it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple

from stepfold.core import events as e
from stepfold.core.durations import UNITS_MS
from stepfold.core.run import Run, RunStatus, StepStatus, Wait
from stepfold.core.shard import Shard, fold
from stepfold.journal.codec import decode_event
from stepfold.journal.memory import PartitionLog
from stepfold.sdk.payload import decode


@dataclass(frozen=True, slots=True)
class AttemptRecord:
    """One try of a step. status: running, completed, failed, timed_out, cancelled or lost."""

    number: int
    status: str
    started_at: datetime
    ended_at: datetime | None = None
    error_type: str = ""
    error_message: str = ""
    next_at: datetime | None = None
    """When the next attempt may start; None: there is none, or this one is no failure."""


@dataclass(frozen=True, slots=True)
class StepRecord:
    """A step of a run. status: running, backoff, completed, failed or cancelled."""

    id: str
    status: str
    args: list[Any]
    kwargs: dict[str, Any]
    output: Any
    attempts: tuple[AttemptRecord, ...]


class Told(NamedTuple):
    """An event that counts, and when it was recorded."""

    at: int
    event: e.Event


class Story:
    """Reads one history partition, as far as it goes."""

    def __init__(self, log: PartitionLog) -> None:
        self.shard = Shard()
        self.run_ids: list[str] = []
        """All runs, in the order of their acceptance."""
        self.events: list[Told] = []
        self._log = log
        self._read = 0
        self._over: dict[str, Run] = {}

    def read_on(self) -> None:
        for record in self._log.records[self._read :]:
            recorded = decode_event(record.value or b"", record.offset)
            event, run_id = recorded.event, getattr(recorded.event, "run_id", "")
            run = self.shard.runs.get(run_id)
            if fold(self.shard, recorded):
                self.events.append(Told(recorded.at, event))
                if isinstance(event, e.RunAccepted):
                    self.run_ids.extend(start.run_id for start in event.runs)
                if run is not None and run_id not in self.shard.runs:
                    self._over[run_id] = run
        self._read = len(self._log.records)

    @property
    def run_events(self) -> int:
        """How often something happened to a run."""
        return sum(hasattr(told.event, "run_id") for told in self.events)

    def run(self, run_id: str) -> Run:
        return self._over.get(run_id) or self.shard.runs[run_id]

    def of(self, run_id: str) -> list[Told]:
        """The run's own events, without its acceptance, which others may share."""
        return [
            told
            for told in self.events
            if getattr(told.event, "run_id", "") == run_id
            and not isinstance(told.event, e.RunAccepted)
        ]


def status_of(run: Run) -> str:
    """As lists of runs show it."""
    if run.status is not RunStatus.OPEN:
        return run.status.name.lower()
    if run.paused:
        return "paused"
    steps = {step.status for step in run.steps.values()}
    if StepStatus.OPEN in steps:
        return "running"
    if StepStatus.BACKOFF in steps:
        return "backoff"
    if run.waits or run.children:
        return "waiting"
    return "sleeping" if run.timers else "running"


def waits_of(run: Run, now_ms: int, parked_message: str) -> list[str]:
    """What an open run waits for, and what a test does about it."""
    if run.status is RunStatus.PARKED:
        return [f"somebody to act on this: {parked_message}"]
    if run.paused:
        return ["run.resume(), for it is paused"]
    waits = [_wait_told(wait, now_ms) for wait in run.waits.values()]
    waits += [
        f"the attempt of step {name!r} that a Hold keeps: hold.release(value)"
        for name, step in run.steps.items()
        if step.status is StepStatus.OPEN
    ]
    waits += [
        f"the next attempt of step {name!r}: {_advance(step.next_at, now_ms)}"
        for name, step in run.steps.items()
        if step.status is StepStatus.BACKOFF
    ]
    waits += [f"timer {name!r}: {_advance(due, now_ms)}" for name, due in run.timers.items()]
    waits += [
        f"child run {child.run_id} of {name!r}: see it in sandbox.runs"
        for name, child in run.children.items()
    ]
    return waits or ["nothing that the engine knows of: something in its code is never set"]


def steps_of(told: list[Told]) -> dict[str, StepRecord]:
    """The steps of a run in the order of their first attempts."""
    steps: dict[str, _Step] = {}
    for at, event in told:
        if isinstance(event, e.AttemptStarted):
            step = steps.get(event.step)
            if step is None:
                step = steps[event.step] = _Step(decode(event.payload) or {})
            step.status = "running"
            step.attempts.append(AttemptRecord(event.attempt, "running", moment(at)))
        elif isinstance(event, ENDS):
            steps[event.step].end(event, at)
    return {
        name: StepRecord(
            id=name,
            status=step.status,
            args=step.given.get("args", []),
            kwargs=step.given.get("kwargs", {}),
            output=step.output,
            attempts=tuple(step.attempts),
        )
        for name, step in steps.items()
    }


ENDS = (
    e.StepCompleted,
    e.AttemptFailed,
    e.AttemptTimedOut,
    e.AttemptCancelled,
    e.AttemptLost,
)
End = e.StepCompleted | e.AttemptFailed | e.AttemptTimedOut | e.AttemptCancelled | e.AttemptLost


class _Step:
    def __init__(self, given: dict[str, Any]) -> None:
        self.given = given
        self.status = "running"
        self.output: Any = None
        self.attempts: list[AttemptRecord] = []

    def end(self, event: End, at: int) -> None:
        match event:
            case e.StepCompleted():
                self._close("completed", at, "completed")
                self.output = decode(event.payload)
            case e.AttemptFailed():
                error = (event.error_type, event.error_message)
                self._tried_in_vain("failed", at, event.next_at, error)
            case e.AttemptTimedOut():
                self._tried_in_vain("timed_out", at, event.next_at, ("StepTimeout", event.reason))
            case e.AttemptCancelled():
                self._close("cancelled", at, "cancelled")
            case e.AttemptLost():
                self._close("lost", at, "backoff")

    def _tried_in_vain(self, status: str, at: int, next_at: int, error: tuple[str, str]) -> None:
        self._close(status, at, "backoff" if next_at else "failed", error, next_at)

    def _close(
        self,
        status: str,
        at: int,
        step_status: str,
        error: tuple[str, str] = ("", ""),
        next_at: int = 0,
    ) -> None:
        self.status = step_status
        last = self.attempts[-1]
        self.attempts[-1] = AttemptRecord(
            number=last.number,
            status=status if last.ended_at is None else last.status,
            started_at=last.started_at,
            ended_at=last.ended_at or moment(at),
            error_type=error[0] or last.error_type,
            error_message=error[1] or last.error_message,
            next_at=moment(next_at) if next_at else None,
        )


def moment(at_ms: int) -> datetime:
    return datetime.fromtimestamp(at_ms / 1_000, UTC)


def _wait_told(wait: Wait, now_ms: int) -> str:
    if wait.kind == "definition":
        return f"workflow {wait.name!r}, which the app does not have: await sandbox.deploy(app)"
    told = f"signal {wait.name!r}: await run.signal({wait.name!r}, ...)"
    if wait.expires_at:
        told += f", or the end of its timeout: {_advance(wait.expires_at, now_ms)}"
    return told


def _advance(due: int, now_ms: int) -> str:
    """How far time has to move, in the largest unit that says it exactly."""
    left_ms = max(0, due - now_ms)
    unit = next(unit for unit in ("d", "h", "m", "s", "ms") if left_ms % UNITS_MS[unit] == 0)
    return f'await sandbox.advance("{left_ms // UNITS_MS[unit]}{unit}")'
