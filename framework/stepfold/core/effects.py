"""What must be going on now, derived from folded state and nothing else.

A new owner needs no special path: it folds, asks `pending` of every open run, and
goes on. What the workflow's code wants next is not here: replay tells it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from stepfold.core.ids import Epoch
from stepfold.core.run import Run, RunStatus, StepStatus


class Pending(NamedTuple):
    """lost: steps whose attempt belongs to an older epoch; deliverable: a buffered signal
    has somebody who waits for it; wake_at: the next due time of anything, None: nothing.
    """

    lost: bool
    deliverable: bool
    wake_at: int | None


def pending(run: Run, epoch: Epoch) -> Pending:
    """The effects of a run under the epoch in force."""
    return Pending(
        lost=any(
            step.status is StepStatus.OPEN and step.epoch != epoch for step in run.steps.values()
        ),
        deliverable=bool(run.signals) and _waited_for(run),
        wake_at=wake_at(run),
    )


def _waited_for(run: Run) -> bool:
    names = {wait.name for wait in run.waits.values() if wait.kind == "signal"}
    return any(signal.name in names for signal in run.signals)


def wake_at(run: Run) -> int | None:
    """When something of the run is due next, in broker milliseconds."""
    if run.is_terminal or run.status is RunStatus.PARKED:
        return None
    due = list(alarms(run))
    if not run.paused:
        due += [step.next_at for step in run.steps.values() if step.status is StepStatus.BACKOFF]
    return min(due, default=None)


def alarms(run: Run) -> Iterator[int]:
    """The due times of an open run, but for those of attempts."""
    yield from run.timers.values()
    yield from (wait.expires_at for wait in run.waits.values() if wait.expires_at)
    yield from (child.expires_at for child in run.children.values() if child.expires_at)
    if run.deadline:
        yield run.deadline
