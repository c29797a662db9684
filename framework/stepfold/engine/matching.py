"""Which runs a trigger starts: one for each workflow whose filter it passes.

A start names its workflow, and is accepted even when no worker here has it: the run
then waits, visibly, until one has.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from stepfold.core.commands import StartChild, Trigger
from stepfold.core.errors import CodecError
from stepfold.core.events import RunStart
from stepfold.sdk.app import App
from stepfold.sdk.triggers import EventView
from stepfold.sdk.workflow import WorkflowDefinition

RUNS_PER_TRIGGER_MAX = 1_000
"""A run id has two letters for the number of a run among those of its trigger."""
TENANT_MAX = 256
"""Characters of a tenant: it stands in every event of its runs."""


def runs_for(
    app: App, trigger: Trigger, run_id: Callable[[int], str], accepted_at: int
) -> tuple[RunStart, ...]:
    """The runs in the order in which the app declares their workflows.

    Raises CodecError for a trigger that cannot become runs.
    """
    view = EventView(name=trigger.name, id=trigger.id, payload=trigger.payload)
    if trigger.workflow:
        definition = app.workflows.get(trigger.workflow)
        if definition is None:
            return (RunStart(run_id(0), trigger.workflow, "", "", trigger.idempotency_key, 0),)
        return (_start(definition, view, trigger, run_id(0), accepted_at),)
    matching = [d for d in app.workflows.values() if d.matches(view)]
    if len(matching) > RUNS_PER_TRIGGER_MAX:
        raise CodecError(
            f"event {trigger.name!r} starts {len(matching)} workflows, the limit is"
            f" {RUNS_PER_TRIGGER_MAX}; narrow their filters"
        )
    return tuple(
        _start(definition, view, trigger, run_id(number), accepted_at)
        for number, definition in enumerate(matching)
    )


def child_start(app: App, child: StartChild, accepted_at: int) -> RunStart:
    """The run that another run starts; like every start it is accepted in any case."""
    definition = app.workflows.get(child.workflow)
    if definition is None:
        return RunStart(child.run_id, child.workflow, "", "", "", 0)
    view = EventView(name=child.workflow, id="", payload=child.payload)
    return RunStart(
        run_id=child.run_id,
        workflow=child.workflow,
        def_hash=definition.def_hash,
        tenant=definition.tenant_of(view)[:TENANT_MAX],
        idempotency_key="",
        deadline=_deadline(definition, accepted_at),
    )


def _deadline(definition: WorkflowDefinition[Any, Any], accepted_at: int) -> int:
    return 0 if definition.timeout_ms is None else accepted_at + definition.timeout_ms


def _start(
    definition: WorkflowDefinition[Any, Any],
    view: EventView,
    trigger: Trigger,
    run_id: str,
    at: int,
) -> RunStart:
    tenant = definition.tenant_of(view)
    if len(tenant) > TENANT_MAX:
        raise CodecError(
            f"the tenant of workflow {definition.name!r} has {len(tenant)} characters here, the"
            f" limit is {TENANT_MAX}; correct tenant= or the event"
        )
    return RunStart(
        run_id=run_id,
        workflow=definition.name,
        def_hash=definition.def_hash,
        tenant=tenant,
        idempotency_key=trigger.idempotency_key,
        deadline=_deadline(definition, at),
    )
