"""Calls that reach beyond the run: child runs, and events for an app's inbox."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, cast, overload

from stepfold.core.durations import Duration
from stepfold.core.errors import ConfigurationError
from stepfold.sdk.calls import ChildCall, EventCall
from stepfold.sdk.context import asked, current_instance
from stepfold.sdk.event import Event
from stepfold.sdk.failures import shown
from stepfold.sdk.payload import encode, type_adapter
from stepfold.sdk.policies import checked_duration
from stepfold.sdk.workflow import WorkflowDefinition

if TYPE_CHECKING:
    from stepfold.sdk.activation import WorkflowInstance


Input = TypeVar("Input")
Result = TypeVar("Result")


class CallsBeyond:
    """The part of `step` that starts runs and sends events."""

    async def send_event(
        self,
        name: str,
        event: Event[Any],
        /,
        *,
        app: str | None = None,
    ) -> str:
        """Send an event to an app's inbox, exactly once; returns its id. Default: the own app."""
        instance = current_instance()
        if instance is None:
            raise RuntimeError(
                f"send_event({name!r}) works in workflow code only; elsewhere use Client.send"
            )
        return cast("str", await asked(lambda: call_event(instance, name, event, app)))

    @overload
    async def invoke(
        self,
        name: str,
        workflow: WorkflowDefinition[Input, Result],
        input: Input = ...,
        /,
        *,
        timeout: Duration | None = None,
    ) -> Result: ...
    @overload
    async def invoke(
        self,
        name: str,
        workflow: str,
        input: object = None,
        /,
        *,
        timeout: Duration | None = None,
    ) -> Any: ...
    async def invoke(
        self,
        name: str,
        workflow: WorkflowDefinition[Any, Any] | str,
        input: object = None,  # noqa: A002 - the contract's name
        /,
        *,
        timeout: Duration | None = None,
    ) -> Any:
        """Run a workflow as a child run, and wait for its result.

        Raises StepFailed when the child failed, was cancelled, or took longer than `timeout`;
        then it is cancelled. It is cancelled as well when this run ends or gives the call up.
        """
        instance = current_instance()
        if instance is None:
            if isinstance(workflow, str):
                raise RuntimeError(f"invoke({name!r}) of a workflow by name works in runs only")
            return await (workflow(input) if workflow.takes_input else workflow())
        return await asked(
            lambda: call_child(instance, name, workflow, input, is_awaited=True, timeout=timeout)
        )

    async def start(
        self,
        name: str,
        workflow: WorkflowDefinition[Any, Any] | str,
        input: object = None,  # noqa: A002 - the contract's name
        /,
    ) -> str:
        """Start a workflow as a run of its own, which outlives this one; returns its run id."""
        instance = current_instance()
        if instance is None:
            raise RuntimeError(
                f"start({name!r}) works in workflow code only; elsewhere use Client.start"
            )
        ask = partial(call_child, instance, name, workflow, input, is_awaited=False)
        return cast("str", await asked(ask))


class _Target(NamedTuple):
    """app is empty for the run's own."""

    app: str
    workflow: str


def call_child(
    instance: WorkflowInstance,
    name: str,
    workflow: WorkflowDefinition[Any, Any] | str,
    value: object,
    *,
    is_awaited: bool,
    timeout: Duration | None = None,
) -> asyncio.Future[Any]:
    """The child's result, or its run id where nobody waits for it."""
    target, what = _target_of(name, workflow), f"child {name!r}"
    limit_ms = None if timeout is None else checked_duration(timeout, f"timeout= of {what}")
    adapter = type_adapter(Any if is_awaited else str, what)
    if is_awaited and isinstance(workflow, WorkflowDefinition):
        adapter = workflow.result_adapter
    return instance.call(
        name,
        adapter,
        lambda step: ChildCall(
            step=step,
            app=target.app,
            workflow=target.workflow,
            encode_input=lambda: encode(value, f"the input of {what}"),
            is_awaited=is_awaited,
            expires_at=0 if limit_ms is None else instance.now_ms() + limit_ms,
        ),
    )


def call_event(
    instance: WorkflowInstance, name: str, event: object, app: str | None
) -> asyncio.Future[Any]:
    """The id of the event, once it is certain to arrive."""
    if not isinstance(event, Event):
        raise ConfigurationError(
            f"send_event({name!r}) takes an Event, got {shown(event)}; "
            'write Event("order/paid", data=...)'
        )
    adapter = type_adapter(str, f"event {name!r}")
    return instance.call(name, adapter, partial(_event_call, event, app or ""))


def _event_call(event: Any, app: str, step: str) -> EventCall:
    return EventCall(
        step=step,
        app=app,
        name=event.name,
        event_id=event.id or "",
        key=event.key or "",
        encode_data=lambda: encode(event.data, f"the data of event {event.name!r}"),
    )


def _target_of(name: str, workflow: object) -> _Target:
    if isinstance(workflow, WorkflowDefinition):
        return _Target(workflow.app, workflow.name)
    app, _, own = workflow.rpartition("/") if isinstance(workflow, str) else ("", "", "")
    if not own:
        raise ConfigurationError(
            f"child {name!r} needs a workflow: one that @app.workflow made, its name in this app,"
            f" or 'app/workflow'; got {shown(workflow)}"
        )
    return _Target(app, own)
