"""A run in memory: its workflow's code on its own loop, fed with the folded outcomes.

The code may run ahead of the proof: it has no side effects, so what it asks for is
only *asked* here. Effects wait for proof in the leader. When the code turns out to
have run on events that never became valid, the whole live run is dropped and replayed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from stepfold.core.outcomes import (
    CancelAsked,
    ChildErrored,
    ChildReturned,
    Outcome,
    SignalArrived,
    StepErrored,
    StepSucceeded,
    TimerElapsed,
    WaitTimedOut,
)
from stepfold.core.run import Run, StepStatus
from stepfold.engine.isolated_process import Replay
from stepfold.sdk.activation import WorkflowInstance
from stepfold.sdk.calls import (
    Call,
    ChildCall,
    Completion,
    End,
    EventCall,
    SignalCall,
    SleepCall,
    StepCall,
)
from stepfold.sdk.workflow import WorkflowDefinition


class Wanted(NamedTuple):
    """What the code asked for since it was last asked, abandoned calls already removed."""

    calls: tuple[Call, ...]
    abandoned: tuple[str, ...]
    end: End | None


class LiveRun:
    def __init__(self, run: Run, instance: WorkflowInstance) -> None:
        self.run = run
        self.instance = instance
        self.steps: dict[str, StepCall] = {}
        self.timers: Mapping[str, int] = {}
        self.wake_at: int | None = None
        self._woken_at = 0
        self._may_back_off = True
        self._is_started = False
        self._consumed = 0
        self._recovered = len(run.outcomes)

    @classmethod
    def of(cls, run: Run, definition: WorkflowDefinition[Any, Any]) -> LiveRun:
        instance = WorkflowInstance(
            definition,
            run_id=run.run_id,
            app=run.app,
            tenant=run.tenant,
            event_name=run.event_name,
            event_id=run.event_id,
            event_data=run.payload,
            started_at=run.accepted_at,
        )
        return cls(run, instance)

    @property
    def is_behind(self) -> bool:
        """Whether there are outcomes that the code has not seen."""
        return not self._is_started or self._consumed < len(self.run.outcomes)

    @property
    def is_idle(self) -> bool:
        """Whether the code has seen everything, and waits for no step."""
        return not self.steps and not self.is_behind

    def catch_up(self) -> Wanted:
        """Hand over all outcomes that the code has not seen, and collect what it wants.

        On a replay the code asks for everything again. What the log has answered is not
        wanted: a wait that is opened a second time would swallow the next signal.
        """
        calls: dict[str, Call] = {}
        abandoned: list[str] = []
        end: End | None = None
        while self.is_behind and end is None:
            outcome = self._next_outcome()
            completion = self._activate(outcome)
            if outcome is not None:
                calls.pop(answered_by(outcome), None)
            for call in completion.calls:
                calls[call_id(call)] = call
                if isinstance(call, StepCall):
                    self.steps[call.step] = call
            for gone in completion.abandoned:
                calls.pop(gone, None)
                self.steps.pop(gone, None)
            abandoned.extend(completion.abandoned)
            self.timers = completion.timers
            end = completion.end
        return Wanted(tuple(calls.values()), tuple(abandoned), end)

    def _next_outcome(self) -> Outcome | None:
        """None: the code begins."""
        if not self._is_started:
            self._is_started = True
            return None
        self._consumed += 1
        return self.run.outcomes[self._consumed - 1]

    def _activate(self, outcome: Outcome | None) -> Completion:
        if isinstance(outcome, StepSucceeded | StepErrored):
            self.steps.pop(outcome.step, None)
        replaying = self._consumed < self._recovered
        return self.instance.activate(outcome, replaying=replaying)

    def woken(self, now: int) -> None:
        """All that is due by now is being asked for."""
        self.wake_at = None
        self._woken_at = now
        self._may_back_off = True

    def has_backed_off(self, next_at: int) -> None:
        """An attempt failed, and the next one is due then, which may be at once."""
        self._woken_at = min(self._woken_at, next_at - 1)
        self._may_back_off = True

    def next_attempt_at(self) -> int | None:
        """When an attempt is due that nobody was woken for yet; None: none, or as said before.

        Only steps that the code asks for count: one that changed code no longer calls stays
        due for ever. And one that found no room when it was due is called when there is some.
        """
        if not self._may_back_off:
            return None
        self._may_back_off = False
        steps = (self.run.steps.get(step_id) for step_id in self.steps)
        due = (step.next_at for step in steps if step and step.status is StepStatus.BACKOFF)
        return min((at for at in due if at > self._woken_at), default=None)

    def replay(self, step: str, attempt: int, timeout_ms: int | None) -> Replay:
        """What another process needs to know to execute this attempt."""
        run = self.run
        return Replay(
            run_id=run.run_id,
            app=run.app,
            workflow=run.workflow,
            tenant=run.tenant,
            event_name=run.event_name,
            event_id=run.event_id,
            event_data=run.payload,
            started_at=run.accepted_at,
            outcomes=tuple(run.outcomes),
            step=step,
            attempt=attempt,
            timeout_ms=timeout_ms,
        )

    def close(self) -> None:
        self.instance.close()


def is_loop_timer(timer_id: str) -> bool:
    """Whether it is a timer of the workflow's loop, not a `step.sleep`."""
    return timer_id == "timer" or timer_id.startswith("timer#")


def answered_by(outcome: Outcome) -> str:
    """The id of the call that has its answer; empty where it is no answer."""
    match outcome:
        case StepSucceeded() | StepErrored() | ChildReturned() | ChildErrored():
            return outcome.step
        case TimerElapsed():
            return outcome.timer_id
        case SignalArrived() | WaitTimedOut():
            return outcome.wait_id
        case CancelAsked():
            return ""


def call_id(call: Call) -> str:
    match call:
        case StepCall() | ChildCall() | EventCall():
            return call.step
        case SleepCall():
            return call.timer_id
        case SignalCall():
            return call.wait_id
