"""Which runs a trigger starts: one for each workflow whose filter it passes.

A start names its workflow, and is accepted even when no worker here has it: the run
then waits, visibly, until one has.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from stepfold.core.commands import Trigger
from stepfold.core.events import RunStart
from stepfold.sdk.app import App
from stepfold.sdk.triggers import EventView
from stepfold.sdk.workflow import WorkflowDefinition


def runs_for(
    app: App, trigger: Trigger, run_id: Callable[[int], str], accepted_at: int
) -> tuple[RunStart, ...]:
    """The runs in the order in which the app declares their workflows."""
    view = EventView(name=trigger.name, id=trigger.id, payload=trigger.payload)
    if trigger.workflow:
        definition = app.workflows.get(trigger.workflow)
        if definition is None:
            return (RunStart(run_id(0), trigger.workflow, "", "", trigger.idempotency_key, 0),)
        return (_start(definition, view, trigger, run_id(0), accepted_at),)
    matching = [d for d in app.workflows.values() if d.matches(view)]
    return tuple(
        _start(definition, view, trigger, run_id(number), accepted_at)
        for number, definition in enumerate(matching)
    )


def _start(
    definition: WorkflowDefinition[Any, Any],
    view: EventView,
    trigger: Trigger,
    run_id: str,
    at: int,
) -> RunStart:
    return RunStart(
        run_id=run_id,
        workflow=definition.name,
        def_hash=definition.def_hash,
        tenant=definition.tenant_of(view),
        idempotency_key=trigger.idempotency_key,
        deadline=0 if definition.timeout_ms is None else at + definition.timeout_ms,
    )
