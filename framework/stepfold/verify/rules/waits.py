"""Timers, waits and signals: each is answered once, and not before its time."""

from __future__ import annotations

from stepfold.core import events as e
from stepfold.verify.rule import CLOCK_TOLERANCE_MS, rule
from stepfold.verify.story import Moment


@rule("R21")
def timer_is_set_once(event: e.TimerSet, now: Moment) -> str | None:
    timer = None if now.run is None else now.run.timers.get(event.timer_id)
    if timer is None:
        return None
    how = "is set already" if timer.is_set else "was over before"
    return f"timer {event.timer_id!r} is set, and {how}"


@rule("R21")
def timer_fires_once(event: e.TimerFired, now: Moment) -> str | None:
    """A timer of the workflow's loop may fire without ever having been set in the log."""
    if now.run is None:
        return None
    timer = now.run.timers.get(event.timer_id)
    if timer is None:
        if is_loop_timer(event.timer_id) or not now.run.is_whole:
            return None
        return f"timer {event.timer_id!r} fired, and was never set"
    if not timer.is_set:
        return f"timer {event.timer_id!r} fired, and was over before"
    if event.due != timer.due:
        return f"timer {event.timer_id!r} fired as due at {event.due}; it was set for {timer.due}"
    return None


@rule("R21")
def timer_waits_for_its_time(event: e.TimerFired, now: Moment) -> str | None:
    if now.timestamp + CLOCK_TOLERANCE_MS >= event.due:
        return None
    return f"timer {event.timer_id!r} fired {event.due - now.timestamp} ms before it was due"


@rule("R21")
def only_a_set_timer_is_cancelled(event: e.TimerCancelled, now: Moment) -> str | None:
    if now.run is None or not now.run.is_whole:
        return None
    timer = now.run.timers.get(event.timer_id)
    if timer is not None and timer.is_set:
        return None
    return f"timer {event.timer_id!r} is cancelled, and is not set"


def is_loop_timer(timer_id: str) -> bool:
    """Of `asyncio.sleep` and `asyncio.timeout` in a workflow's code."""
    return timer_id == "timer" or timer_id.startswith("timer#")


@rule("I3")
def wait_opens_once(event: e.WaitOpened, now: Moment) -> str | None:
    """One for the workflow's code may open again: it can go away more than once."""
    wait = None if now.run is None else now.run.waits.get(event.wait_id)
    if wait is None or (event.kind == "definition" and not wait.is_open):
        return None
    how = "is open already" if wait.is_open else "was over before"
    return f"wait {event.wait_id!r} opens, and {how}"


@rule("I3")
def wait_ends_once(event: e.WaitResolved | e.WaitExpired, now: Moment) -> str | None:
    if now.run is None:
        return None
    wait = now.run.waits.get(event.wait_id)
    if wait is not None and wait.is_open:
        return None
    if wait is None and not now.run.is_whole:
        return None
    how = "never opened" if wait is None else "had ended before"
    return f"{type(event).__name__} of wait {event.wait_id!r}, which {how}"


@rule("I3")
def signal_is_delivered_once(event: e.WaitResolved, now: Moment) -> str | None:
    if now.run is None or event.signal_id not in now.run.delivered:
        return None
    return f"signal {event.signal_id} is delivered again, to wait {event.wait_id!r}"


@rule("I3")
def delivery_is_of_a_signal_that_came(event: e.WaitResolved, now: Moment) -> str | None:
    """By a control record, or by a signal that was buffered before."""
    if now.run is None or not now.run.is_whole or not event.signal_id:
        return None
    wait = now.run.waits.get(event.wait_id)
    if event.source.partition >= 0 or event.signal_id in now.run.delivered:
        return None
    name = now.run.buffered.get(event.signal_id)
    if name is None:
        return f"signal {event.signal_id} is delivered, and never came"
    if wait is not None and wait.name != name:
        return f"a signal {name!r} is delivered to a wait for {wait.name!r}"
    return None


@rule("I3")
def wait_for_a_signal_ends_by_one(event: e.WaitResolved, now: Moment) -> str | None:
    wait = None if now.run is None else now.run.waits.get(event.wait_id)
    if wait is None or wait.kind != "signal" or event.signal_id:
        return None
    return f"wait {event.wait_id!r} is for a signal, and ended without one"


@rule("I3")
def only_a_waiting_signal_expires(event: e.SignalExpired, now: Moment) -> str | None:
    if now.run is None or not now.run.is_whole or event.signal_id in now.run.buffered:
        return None
    return f"signal {event.signal_id} expires, and does not wait"
