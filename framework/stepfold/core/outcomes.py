"""What has happened to the calls of a workflow, in the order of the log.

The fold keeps a run's outcomes in a list; handing that list, one at a time, to the
workflow's own event loop brings its code to where it stood. The same list drives the
live run and the replay: there is no second path.
"""

from __future__ import annotations

from typing import NamedTuple, TypeAlias


class StepSucceeded(NamedTuple):
    at: int
    step: str
    payload: bytes
    payload_encoding: str


class StepErrored(NamedTuple):
    """The step has no attempt left."""

    at: int
    step: str
    attempts: int
    error_type: str
    error_message: str
    error_stack: str


class TimerElapsed(NamedTuple):
    """A `step.sleep`, or a timer of the workflow's loop, is due."""

    at: int
    timer_id: str


class SignalArrived(NamedTuple):
    at: int
    wait_id: str
    payload: bytes
    payload_encoding: str


class WaitTimedOut(NamedTuple):
    at: int
    wait_id: str


class ChildReturned(NamedTuple):
    """A child completed, or was started without being waited for; or an event was sent."""

    at: int
    step: str
    payload: bytes
    payload_encoding: str


class ChildErrored(NamedTuple):
    """A child failed, was cancelled or took too long; or could not be asked for."""

    at: int
    step: str
    error_type: str
    error_message: str


class CancelAsked(NamedTuple):
    at: int
    reason: str


Outcome: TypeAlias = (
    StepSucceeded
    | StepErrored
    | TimerElapsed
    | SignalArrived
    | WaitTimedOut
    | ChildReturned
    | ChildErrored
    | CancelAsked
)
