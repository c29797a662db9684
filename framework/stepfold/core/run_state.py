"""The whole state of a run as JSON, and back.

What is read back is equal to what was written, in every field that the fold keeps: a
fold that begins at a snapshot must not differ from one that began at the first record.
Payloads are JSON texts already and are kept as strings; bytes that are no UTF-8, as
sealed ones are, go through unharmed. Fields with their default value are left out.
"""

from __future__ import annotations

import json
from dataclasses import MISSING, fields
from typing import Any, TypeAlias

from stepfold.core import events as e
from stepfold.core import outcomes as o
from stepfold.core.ids import Epoch
from stepfold.core.run import Child, Run, RunStatus, Signal, Step, StepStatus, Wait

Plain: TypeAlias = Any
"""What JSON can hold."""


def run_state(run: Run) -> bytes:
    state: dict[str, Plain] = {
        name: plain(value)
        for name, default in _RUN_FIELDS.items()
        if (value := getattr(run, name)) != default
    }
    state["outcomes"] = [[type(each).__name__, *map(plain, each)] for each in run.outcomes]
    state["steps"] = {key: _step_state(step) for key, step in run.steps.items()}
    state["timers"] = run.timers
    state["waits"] = run.waits
    state["children"] = run.children
    state["given_up"] = run.given_up
    state["signals"] = [list(map(plain, signal)) for signal in run.signals]
    return dumped({key: value for key, value in state.items() if value not in ({}, [])})


def run_of(state: bytes) -> Run:
    loaded: dict[str, Plain] = json.loads(state)
    known = {name: unplain(loaded[name]) for name in _RUN_FIELDS if name in loaded}
    run = Run(**known)
    run.status = RunStatus(run.status)
    run.parent = e.Parent(*run.parent)
    run.outcomes = [
        _OUTCOMES[name](*map(unplain, values)) for name, *values in loaded.get("outcomes", ())
    ]
    run.steps = {key: _step_of(values) for key, values in loaded.get("steps", {}).items()}
    run.timers = loaded.get("timers", {})
    run.waits = {key: Wait(*values) for key, values in loaded.get("waits", {}).items()}
    run.children = {key: Child(*values) for key, values in loaded.get("children", {}).items()}
    run.given_up = loaded.get("given_up", [])
    run.signals = [Signal(*map(unplain, values)) for values in loaded.get("signals", ())]
    return run


def plain(value: Any) -> Plain:
    """Bytes become {"$": text}, as no other value looks."""
    if isinstance(value, bytes):
        return {"$": value.decode("utf-8", "surrogateescape")}
    return value


def unplain(value: Plain) -> Any:
    if isinstance(value, dict):
        text: str = value["$"]  # pyright: ignore[reportUnknownVariableType] - JSON
        return text.encode("utf-8", "surrogateescape")  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType] - JSON
    return value


def dumped(state: Plain) -> bytes:
    return json.dumps(state, separators=(",", ":")).encode()


_OUTCOMES: dict[str, Any] = {
    kind.__name__: kind
    for kind in (
        o.StepSucceeded,
        o.StepErrored,
        o.TimerElapsed,
        o.SignalArrived,
        o.WaitTimedOut,
        o.ChildReturned,
        o.ChildErrored,
        o.CancelAsked,
    )
}
_TABLES = frozenset({"outcomes", "steps", "timers", "waits", "signals", "children", "given_up"})
_REQUIRED = object()
_RUN_FIELDS: dict[str, Any] = {
    field.name: _REQUIRED if field.default is MISSING else field.default
    for field in fields(Run)
    if field.name not in _TABLES
}


def _step_state(step: Step) -> Plain:
    return [
        int(step.status),
        step.attempt,
        *step.epoch,
        step.first_started_at,
        step.timeout_at,
        step.failed,
        step.lost,
        step.next_at,
    ]


def _step_of(values: Plain) -> Step:
    status, attempt, epoch_offset, epoch_nonce, *rest = values
    return Step(StepStatus(status), attempt, Epoch(epoch_offset, epoch_nonce), *rest)
