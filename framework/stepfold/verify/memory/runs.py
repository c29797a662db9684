"""What events of a run tell: its steps, timers, waits, children and its end."""

from __future__ import annotations

from typing import Any

from stepfold.core import events as e
from stepfold.verify.memory.shard import decided, note, note_part, taken
from stepfold.verify.story import (
    ChildStory,
    Fate,
    Moment,
    RunStory,
    StepState,
    StepStory,
    TimerStory,
    WaitStory,
)

LOST_KEPT = 2
"""Lost attempts of a step that are still held against it when its run is resumed."""


def attempt_started(event: e.AttemptStarted, now: Moment) -> None:
    run, step = _run_of(event, now), now.step
    unproven_from = now.shard.succession.unproven_from
    is_proven = unproven_from is None
    if step is None:
        run.steps[event.step] = StepStory(
            StepState.OPEN,
            event.attempt,
            now.epoch,
            now.offset,
            is_proven,
            event.timeout_at,
            event.isolated,
        )
        return
    step.state = StepState.OPEN
    step.attempt = event.attempt
    step.epoch = now.epoch
    step.offset = now.offset
    step.is_proven = is_proven
    step.timeout_at = event.timeout_at
    step.is_isolated = event.isolated


def completed(event: e.StepCompleted, now: Moment) -> None:
    step = now.step or _step_of(event, now)
    step.state = StepState.COMPLETED
    step.offset = now.offset


def failed(event: e.AttemptFailed | e.AttemptTimedOut, now: Moment) -> None:
    step = _step_of(event, now)
    step.failed += 1
    step.next_at = event.next_at
    _move(step, StepState.BACKOFF if event.next_at else StepState.FAILED, now)


def lost(event: e.AttemptLost, now: Moment) -> None:
    step = _step_of(event, now)
    step.lost = event.lost
    step.next_at = 0
    _move(step, StepState.BACKOFF, now)


def attempt_cancelled(event: e.AttemptCancelled, now: Moment) -> None:
    _move(_step_of(event, now), StepState.CANCELLED, now)


def _move(step: StepStory, state: StepState, now: Moment) -> None:
    if not step.is_over:  # a step stays what it became, whatever else is said of it
        step.state = state
        if step.is_over:
            step.offset = now.offset


def _step_of(event: Any, now: Moment) -> StepStory:
    """The step's story; one that is not known here began before the first record."""
    run = _run_of(event, now)
    step = run.steps.get(event.step)
    if step is None:
        step = StepStory(StepState.OPEN, event.attempt, now.epoch, now.offset, is_proven=True)
        run.steps[event.step] = step
    return step


def _run_of(event: Any, now: Moment) -> RunStory:
    """The run's story; one that is not known here was accepted before the first record."""
    if now.run is not None:
        return now.run
    run_id: str = event.run_id
    if run_id in now.shard.ended:
        return RunStory(-1, is_whole=False)  # what comes after the end is not remembered
    run = RunStory(-1, is_whole=False)
    now.shard.runs[run_id] = run
    return run


def timer_set(event: e.TimerSet, now: Moment) -> None:
    _run_of(event, now).timers[event.timer_id] = TimerStory(event.due, is_set=True)


def timer_fired(event: e.TimerFired, now: Moment) -> None:
    _run_of(event, now).timers[event.timer_id] = TimerStory(event.due, is_set=False)


def timer_cancelled(event: e.TimerCancelled, now: Moment) -> None:
    _run_of(event, now).timers[event.timer_id] = TimerStory(0, is_set=False)


def wait_opened(event: e.WaitOpened, now: Moment) -> None:
    _run_of(event, now).waits[event.wait_id] = WaitStory(event.kind, event.name, is_open=True)


def wait_resolved(event: e.WaitResolved, now: Moment) -> None:
    note(event, now, Fate.COMMAND)
    run = _run_of(event, now)
    _close(run, event.wait_id)
    if event.signal_id:
        run.buffered.pop(event.signal_id, None)
        run.delivered.add(event.signal_id)


def wait_expired(event: e.WaitExpired, now: Moment) -> None:
    _close(_run_of(event, now), event.wait_id)


def _close(run: RunStory, wait_id: str) -> None:
    wait = run.waits.get(wait_id)
    if wait is None:
        wait = run.waits[wait_id] = WaitStory("", "", is_open=False)
    wait.is_open = False


def signal_buffered(event: e.SignalBuffered, now: Moment) -> None:
    note(event, now, Fate.COMMAND)
    _early_or_open(event, now).buffered[event.signal_id] = event.name


def signal_expired(event: e.SignalExpired, now: Moment) -> None:
    _early_or_open(event, now).buffered.pop(event.signal_id, None)


def cancel_requested(event: e.CancelRequested, now: Moment) -> None:
    note(event, now, Fate.COMMAND)
    taken(event, now)
    _early_or_open(event, now)


def paused(event: e.RunPaused, now: Moment) -> None:
    note(event, now, Fate.COMMAND)
    _early_or_open(event, now).is_paused = True


def resumed(event: e.RunResumed, now: Moment) -> None:
    note(event, now, Fate.COMMAND)
    run = _early_or_open(event, now)
    run.is_paused = False
    if run.is_parked:
        run.is_parked = False
        for step in run.steps.values():
            step.lost = min(step.lost, LOST_KEPT)  # it gets another chance, isolated as before


def parked(event: e.RunParked, now: Moment) -> None:
    _run_of(event, now).is_parked = True


def ended(event: e.RunCompleted | e.RunFailed | e.RunCancelled, now: Moment) -> None:
    decided(event, now)
    now.shard.runs.pop(event.run_id, None)
    now.shard.parts.pop(event.run_id, None)
    now.shard.ended.setdefault(event.run_id, now.offset)


def _early_or_open(event: Any, now: Moment) -> RunStory:
    run_id: str = event.run_id
    if now.run is not None:
        return now.run
    if run_id in now.shard.ended:
        return RunStory(-1, is_whole=False)
    return now.shard.early.setdefault(run_id, RunStory(-1, is_whole=now.shard.is_whole))


def child_requested(event: e.ChildRequested, now: Moment) -> None:
    decided(event, now)
    _run_of(event, now).children[event.step] = ChildStory(is_awaited=event.is_awaited)


def child_resolved(event: e.ChildResolved, now: Moment) -> None:
    note(event, now, Fate.COMMAND)
    decided(event, now)
    taken(event, now)
    if event.run_id in now.shard.ended:
        return
    children = _run_of(event, now).children
    child = children.setdefault(event.step, ChildStory(is_awaited=False))
    child.is_awaited = False
    child.is_answered = child.is_answered or bool(event.origin.shard)


def event_sent(event: e.EventSent, now: Moment) -> None:
    decided(event, now)
    _run_of(event, now).children[event.step] = ChildStory(is_awaited=False)


def run_snapshot(event: e.RunSnapshot, now: Moment) -> None:
    begin = note_part(event, now, event.run_id)
    if begin is not None and event.run_id not in now.shard.ended:
        _run_of(event, now).base = begin
