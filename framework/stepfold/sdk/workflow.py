"""A workflow as it is declared: a function with its name, types, triggers and policies."""

from __future__ import annotations

import hashlib
import inspect
import typing
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from pydantic import TypeAdapter

from stepfold.core.errors import ConfigurationError
from stepfold.core.retry import Retry
from stepfold.sdk.event import Event
from stepfold.sdk.payload import adapter_of, hints_of
from stepfold.sdk.triggers import EventTrigger, EventView, Expression

Input = TypeVar("Input")
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkflowDefinition(Generic[Input, Result]):
    """What `@app.workflow` makes. Call it to run it directly, as an ordinary coroutine."""

    app: str
    name: str
    function: Callable[..., Coroutine[Any, Any, Result]]
    triggers: tuple[EventTrigger, ...]
    tenant: Expression | None
    retry: Retry
    timeout_ms: int | None
    def_hash: str
    takes_input: bool
    takes_event: bool
    input_adapter: TypeAdapter[Any] = field(repr=False)
    result_adapter: TypeAdapter[Any] = field(repr=False)

    def __call__(self, *args: Any) -> Coroutine[Any, Any, Result]:
        return self.function(*args)

    def matches(self, view: EventView) -> bool:
        return any(trigger.matches(view) for trigger in self.triggers)

    def tenant_of(self, view: EventView) -> str:
        """Empty when there is no tenant, or none can be told from this event."""
        if self.tenant is None:
            return ""
        value = self.tenant.evaluate(view)
        return "" if value is None else str(value)


def define(
    function: Callable[..., Coroutine[Any, Any, Any]],
    *,
    app: str,
    name: str | None,
    on: Sequence[EventTrigger],
    tenant: str | None,
    retry: Retry,
    timeout_ms: int | None,
) -> WorkflowDefinition[Any, Any]:
    """Raises ConfigurationError for a function that cannot be a workflow."""
    name = name or function.__name__
    where = f"workflow {name!r} of app {app!r}"
    if not inspect.iscoroutinefunction(function):
        raise ConfigurationError(f"{where} must be an async function")
    parameters = list(inspect.signature(function).parameters.values())
    if len(parameters) > 1 or any(p.kind > p.POSITIONAL_OR_KEYWORD for p in parameters):
        raise ConfigurationError(
            f"{where} takes {len(parameters)} parameters; it may take one, the event's data"
        )
    hints = hints_of(function)
    annotation = hints.get(parameters[0].name, Any) if parameters else None
    takes_event = _is_event(annotation)
    if takes_event:
        annotation = (typing.get_args(annotation) or _event_arguments(annotation))[0]
    return WorkflowDefinition(
        app=app,
        name=name,
        function=function,
        triggers=tuple(on),
        tenant=None if tenant is None else Expression(tenant, f"tenant= of {where}"),
        retry=retry,
        timeout_ms=timeout_ms,
        def_hash=_hash_of(function),
        takes_input=bool(parameters),
        takes_event=takes_event,
        input_adapter=adapter_of(annotation, f"the input of {where}"),
        result_adapter=adapter_of(hints.get("return", Any), f"the result of {where}"),
    )


def _is_event(annotation: Any) -> bool:
    origin = typing.get_origin(annotation) or annotation
    return isinstance(origin, type) and issubclass(origin, Event)


def _event_arguments(annotation: Any) -> tuple[Any, ...]:
    """The type argument of Event[T]; pydantic makes a class of it, which keeps T aside."""
    metadata = getattr(annotation, "__pydantic_generic_metadata__", {})
    return tuple(metadata.get("args", ())) or (Any,)


def _hash_of(function: Callable[..., Any]) -> str:
    try:
        source = inspect.getsource(function)
    except (OSError, TypeError):
        source = function.__qualname__
    return hashlib.sha256(source.encode()).hexdigest()[:16]
