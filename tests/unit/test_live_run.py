"""A run in memory: what its code asks for, and what of it is still wanted."""

from __future__ import annotations

import asyncio

from stepfold import App, step
from stepfold.core import events as e
from stepfold.core.ids import Position
from stepfold.core.run import Run, evolve
from stepfold.engine.live import LiveRun, Wanted, call_id
from stepfold.sdk.activation import WorkflowInstance
from tests.unit.core_samples import AT, CONTROL, EPOCH, RUN, run_of
from tests.unit.history_samples import step_completed

app = App("research")


@app.workflow(name="agent")
async def agent() -> str | None:
    await step.sleep("nap", "1s")
    await asyncio.gather(step.run("plan", int), step.wait_for_signal("approval", bool))
    return await step.wait_for_signal("approval", str)


OPENED = e.WaitOpened(run_id=RUN, wait_id="approval", kind="signal", name="approval", expires_at=0)
RESOLVED = e.WaitResolved(
    source=Position(CONTROL, 0, 0, 0),
    run_id=RUN,
    wait_id="approval",
    signal_id="signal-1",
    payload=b"true",
    payload_encoding="json",
    key_id="",
)


def replayed(run: Run) -> Wanted:
    """What the code wants that begins again on what the log has of the run."""
    instance = WorkflowInstance(
        app.workflows["agent"],
        run_id=RUN,
        app=run.app,
        tenant="",
        event_name="agent",
        event_id="",
        event_data=b"null",
        started_at=AT,
    )
    live = LiveRun(run, instance)
    wanted = live.catch_up()
    live.close()
    return wanted


def test_a_timer_that_fired_before_is_not_wanted_again() -> None:
    run = run_of(
        e.TimerSet(run_id=RUN, timer_id="nap", due=AT + 1_000, purpose="sleep"),
        e.TimerFired(run_id=RUN, timer_id="nap", due=AT + 1_000),
    )

    wanted = replayed(run)

    assert sorted(map(call_id, wanted.calls)) == ["approval", "plan"]


def test_a_wait_that_was_resolved_before_is_not_wanted_again() -> None:
    run = run_of(
        e.TimerSet(run_id=RUN, timer_id="nap", due=AT + 1_000, purpose="sleep"),
        e.TimerFired(run_id=RUN, timer_id="nap", due=AT + 1_000),
        OPENED,
    )
    evolve(run, step_completed(RUN, "plan"), AT, EPOCH)
    evolve(run, RESOLVED, AT, EPOCH)

    wanted = replayed(run)

    assert list(map(call_id, wanted.calls)) == ["approval#2"]
