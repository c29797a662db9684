"""A workflow as it is declared: a function with its name, types, triggers and policies."""

from __future__ import annotations

import hashlib
import inspect
import typing
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from pydantic import TypeAdapter

from stepfold.core.errors import ConfigurationError
from stepfold.core.retry import Retry
from stepfold.sdk.event import Event
from stepfold.sdk.functions import annotation_of, place_of, return_type
from stepfold.sdk.payload import read, type_adapter
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
    has_default: bool
    input_adapter: TypeAdapter[Any] = field(repr=False)
    result_adapter: TypeAdapter[Any] = field(repr=False)
    stand_ins: Mapping[str, Callable[..., Any]] = field(
        default_factory=dict[str, Callable[..., Any]], repr=False, compare=False
    )
    """Functions that tests call in place of the steps of these names."""

    def __call__(self, *args: Any) -> Coroutine[Any, Any, Result]:
        return self.function(*args)

    def arguments(self, event: Event[Any], data: bytes) -> tuple[Any, ...]:
        """What the function is called with. Raises PayloadError for data of another type."""
        if not self.takes_input or (self.has_default and data in (b"", b"null")):
            return ()
        value = read(self.input_adapter, data)
        return (event.model_copy(update={"data": value}) if self.takes_event else value,)

    def result_of(self, payload: bytes) -> Result:
        """The result of a completed run. Raises PayloadError for one of another type."""
        return typing.cast("Result", read(self.result_adapter, payload))

    def matches(self, view: EventView) -> bool:
        return any(trigger.matches(view) for trigger in self.triggers)

    def tenant_of(self, view: EventView) -> str:
        """Empty when there is no tenant, or none can be told from this event."""
        if self.tenant is None:
            return ""
        value = self.tenant.evaluate(view)
        return str(value) if isinstance(value, str | int | float) else ""


def define(
    function: Callable[..., Coroutine[Any, Any, Any]],
    *,
    app: str,
    name: str | None,
    on: Sequence[EventTrigger],
    tenant: str | None,
    retry: Retry,
    timeout_ms: int | None,
    names: Mapping[str, Any],
) -> WorkflowDefinition[Any, Any]:
    """Raises ConfigurationError for a function that cannot be a workflow.

    names: those of the place of the declaration, for types that are local to it.
    """
    if not inspect.iscoroutinefunction(function):
        raise ConfigurationError(
            f"a workflow of app {app!r} must be an async function, and {place_of(function)} is not"
        )
    name = function.__name__ if name is None else name
    where = f"workflow {name!r} of app {app!r}"
    parameter = _parameter(function, where)
    annotation: Any = None
    if parameter is not None:
        annotation = annotation_of(function, parameter.name, names)
    takes_event = _is_event(annotation)
    if takes_event:
        annotation = _event_data_type(annotation)
    return WorkflowDefinition(
        app=app,
        name=name,
        function=function,
        triggers=tuple(on),
        tenant=None if tenant is None else Expression(tenant, f"tenant= of {where}"),
        retry=retry,
        timeout_ms=timeout_ms,
        def_hash=_hash_of(function),
        takes_input=parameter is not None,
        takes_event=takes_event,
        has_default=parameter is not None and parameter.default is not parameter.empty,
        input_adapter=type_adapter(annotation, f"the input of {where}"),
        result_adapter=type_adapter(return_type(function, names), f"the result of {where}"),
    )


def _parameter(function: Callable[..., Any], where: str) -> inspect.Parameter | None:
    parameters = list(inspect.signature(function).parameters.values())
    if not parameters:
        return None
    if len(parameters) > 1:
        listed = ", ".join(parameter.name for parameter in parameters)
        raise ConfigurationError(
            f"{where} has {len(parameters)} parameters ({listed}); it may have one, the event's "
            "data: put them into a pydantic model"
        )
    (parameter,) = parameters
    if parameter.kind > parameter.POSITIONAL_OR_KEYWORD:
        raise ConfigurationError(
            f"{where} has the parameter {str(parameter)!r}; its one parameter, the event's data, "
            "must be an ordinary one"
        )
    return parameter


def _is_event(annotation: Any) -> bool:
    origin = typing.get_origin(annotation) or annotation
    return isinstance(origin, type) and issubclass(origin, Event)


def _event_data_type(annotation: Any) -> Any:
    """T of Event[T]; pydantic makes a class of it, which keeps T aside."""
    metadata = getattr(annotation, "__pydantic_generic_metadata__", {})
    return next(iter(typing.get_args(annotation) or metadata.get("args", ())), Any)


def _hash_of(function: Callable[..., Any]) -> str:
    try:
        source = inspect.getsource(function)
    except Exception:  # noqa: BLE001 - no file, or one that changed since it was imported
        source = function.__qualname__
    return hashlib.sha256(source.encode(errors="replace")).hexdigest()[:16]
