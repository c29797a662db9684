"""Plays a workflow through, as the engine would, and plays the recording again.

Steps are called at once, one outcome at a time; a seed shuffles which of the things that
could happen next does. What the engine adds (the log, attempts, retries) is left out.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

import pydantic_core

from stepfold.core.outcomes import (
    CancelAsked,
    Outcome,
    SignalArrived,
    StepErrored,
    StepSucceeded,
    TimerElapsed,
    WaitTimedOut,
)
from stepfold.engine.live import call_id
from stepfold.sdk.activation import WorkflowInstance
from stepfold.sdk.calls import (
    Call,
    Cancelled,
    ChildCall,
    Completed,
    Completion,
    End,
    Errored,
    EventCall,
    Parked,
    SignalCall,
    SleepCall,
    StepCall,
)
from stepfold.sdk.workflow import WorkflowDefinition

START = 1_800_000_000_000
OUTCOMES_MAX = 30_000


@dataclass
class Play:
    """A recording: what happened, and what the code did on each activation."""

    definition: WorkflowDefinition[Any, Any]
    data: Any = None
    event_name: str = ""
    signals: dict[str, Any] = field(default_factory=dict[str, Any])
    cancel_after: int = -1
    order: random.Random | None = None
    outcomes: list[Outcome] = field(default_factory=list[Outcome])
    completions: list[Completion] = field(default_factory=list[Completion])
    called: list[str] = field(default_factory=list[str])
    now: int = START

    def instance(self) -> WorkflowInstance:
        return WorkflowInstance(
            self.definition,
            run_id="run-1",
            app=self.definition.app,
            tenant="",
            event_name=self.event_name,
            event_id="",
            event_data=pydantic_core.to_json(self.data),
            started_at=START,
        )

    def go(self) -> Play:
        """Until the end, or until nothing is left that could happen."""
        instance = self.instance()
        pending: dict[str, Call] = {}
        outcome: Outcome | None = None
        while len(self.outcomes) < OUTCOMES_MAX:
            completion = instance.activate(outcome, replaying=False)
            self.completions.append(completion)
            for call in completion.calls:
                pending[call_id(call)] = call
            for gone in completion.abandoned:
                pending.pop(gone, None)
            if completion.end is not None:
                break
            outcome = self._next(pending, completion)
            if outcome is None:
                break
            self.outcomes.append(outcome)
        instance.close()
        return self

    @property
    def end(self) -> End | None:
        return self.completions[-1].end

    @property
    def result(self) -> Any:
        end = self.end
        assert isinstance(end, Completed), end
        return pydantic_core.from_json(end.payload)

    @property
    def error(self) -> Errored:
        assert isinstance(self.end, Errored), self.end
        return self.end

    @property
    def parked(self) -> Parked:
        assert isinstance(self.end, Parked), self.end
        return self.end

    @property
    def cancelled(self) -> Cancelled:
        assert isinstance(self.end, Cancelled), self.end
        return self.end

    @property
    def calls(self) -> list[str]:
        return [call_id(call) for completion in self.completions for call in completion.calls]

    def _next(self, pending: dict[str, Call], completion: Completion) -> Outcome | None:
        if len(self.outcomes) == self.cancel_after:
            return CancelAsked(self.now, "asked to")
        chosen = self._choice(pending, completion)
        if chosen is None:
            return None
        if isinstance(chosen, str):
            self.now = max(self.now, _due(pending, completion)[chosen])
            if isinstance(pending.pop(chosen, None), SignalCall):
                return WaitTimedOut(self.now, chosen)
            return TimerElapsed(self.now, chosen)
        self.now += 1
        del pending[call_id(chosen)]
        if isinstance(chosen, SignalCall):
            payload = pydantic_core.to_json(self.signals.pop(chosen.name))
            return SignalArrived(self.now, chosen.wait_id, payload, "json")
        assert isinstance(chosen, StepCall)
        self.called.append(chosen.step)
        return attempt(chosen, self.now)

    def _choice(self, pending: dict[str, Call], completion: Completion) -> Call | str | None:
        """What happens next: without an order, the oldest call that can be answered."""
        answerable = (
            call
            for call in pending.values()
            if isinstance(call, StepCall)
            or (isinstance(call, SignalCall) and call.name in self.signals)
        )
        if self.order is None and (oldest := next(answerable, None)) is not None:
            return oldest
        due = _due(pending, completion)
        choices = [*answerable, *([min(due, key=due.__getitem__)] if due else [])]
        return (self.order or random).choice(choices) if choices else None


def _due(pending: dict[str, Call], completion: Completion) -> dict[str, int]:
    due = {c.timer_id: c.due for c in pending.values() if isinstance(c, SleepCall)}
    waits = [c for c in pending.values() if isinstance(c, SignalCall) and c.expires_at]
    return {**completion.timers, **due, **{wait.wait_id: wait.expires_at for wait in waits}}


def play(definition: WorkflowDefinition[Any, Any], data: Any = None, **options: Any) -> Play:
    return Play(definition, data, **options).go()


def replay(recorded: Play, definition: WorkflowDefinition[Any, Any] | None = None) -> Play:
    """The recorded outcomes again, to the same code or to another."""
    again = Play(definition or recorded.definition, recorded.data, recorded.event_name)
    instance = again.instance()
    for outcome in (None, *recorded.outcomes):
        again.completions.append(instance.activate(outcome, replaying=True))
        if again.end is not None:
            break
    again.outcomes = list(recorded.outcomes)
    instance.close()
    return again


def assert_replays_from_everywhere(recorded: Play) -> None:
    """After each prefix of the outcomes, fresh code stands where the recorded code stood."""
    expected = [shape(completion) for completion in recorded.completions]
    for length in range(len(recorded.outcomes) + 1):
        instance = recorded.instance()
        seen = [
            shape(instance.activate(outcome, replaying=number <= length))
            for number, outcome in enumerate((None, *recorded.outcomes))
        ]
        instance.close()
        assert seen == expected


def shape(completion: Completion) -> tuple[object, ...]:
    """All that the engine acts upon."""
    calls = [(type(call).__name__, call_id(call), _details(call)) for call in completion.calls]
    return (calls, completion.abandoned, dict(completion.timers), completion.end)


def attempt(call: StepCall, now: int) -> Outcome:
    """Call the step's function, which awaits nothing, or whose error is its outcome."""
    try:
        payload = call.encode_result(_value_of(call))
    except Exception as error:  # noqa: BLE001 - whatever the step raises is its failure
        return StepErrored(now, call.step, 1, type(error).__name__, str(error), "")
    return StepSucceeded(now, call.step, payload, "json")


def _value_of(call: StepCall) -> Any:
    value = call.function(*call.args, **call.kwargs)
    if not hasattr(value, "send"):
        return value
    try:
        value.send(None)
    except StopIteration as stop:
        return stop.value
    raise AssertionError(f"step {call.step} of this test must not wait")


def _details(call: Call) -> object:
    match call:
        case StepCall():
            return call.encode_input()
        case SleepCall():
            return call.due
        case SignalCall():
            return (call.name, call.expires_at)
        case ChildCall():
            return (call.app, call.workflow, call.encode_input(), call.is_awaited, call.expires_at)
        case EventCall():
            return (call.app, call.name, call.event_id, call.key, call.encode_data())
