"""An app: the workflows that share an inbox, a control and a history topic."""

from __future__ import annotations

import re
from collections.abc import Callable, Coroutine, Sequence
from types import MappingProxyType
from typing import Any, TypeVar, overload

from stepfold.core.durations import Duration, to_milliseconds
from stepfold.core.errors import ConfigurationError, NotBuiltError
from stepfold.core.retry import Retry
from stepfold.sdk.triggers import EventTrigger
from stepfold.sdk.workflow import WorkflowDefinition, define

Input = TypeVar("Input")
Result = TypeVar("Result")
Function = Callable[[Input], Coroutine[Any, Any, Result]]
FunctionWithoutInput = Callable[[], Coroutine[Any, Any, Result]]

APP_NAME = re.compile(r"[a-z][a-z0-9-]{0,62}")
WORKFLOW_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,127}")


class _Decorator:
    """What `@app.workflow(...)` with options returns."""

    def __init__(self, define_one: Callable[[Callable[..., Any]], Any]) -> None:
        self._define_one = define_one

    @overload
    def __call__(
        self, function: FunctionWithoutInput[Result], /
    ) -> WorkflowDefinition[None, Result]: ...
    @overload
    def __call__(
        self, function: Callable[[Input], Coroutine[Any, Any, Result]], /
    ) -> WorkflowDefinition[Input, Result]: ...
    def __call__(self, function: Callable[..., Any], /) -> Any:
        return self._define_one(function)


class App:
    """name: `[a-z][a-z0-9-]{0,62}`; it names the topics. retry: for steps that say nothing else.

    version: of the user's code, recorded with each claim of a worker.
    """

    def __init__(
        self, name: str, *, retry: Retry | None = None, version: str | None = None
    ) -> None:
        if not APP_NAME.fullmatch(name):
            raise ConfigurationError(
                f"not a name for an app: {name!r}; use a lower-case letter, then up to 62 "
                "lower-case letters, digits or hyphens"
            )
        self.name = name
        self.retry = retry or Retry()
        self.version = version
        self._workflows: dict[str, WorkflowDefinition[Any, Any]] = {}
        self.workflows = MappingProxyType(self._workflows)

    @overload
    def workflow(
        self, function: FunctionWithoutInput[Result], /
    ) -> WorkflowDefinition[None, Result]: ...
    @overload
    def workflow(
        self, function: Callable[[Input], Coroutine[Any, Any, Result]], /
    ) -> WorkflowDefinition[Input, Result]: ...
    @overload
    def workflow(
        self,
        name: str | None = None,
        /,
        *,
        on: EventTrigger | Sequence[EventTrigger] = (),
        tenant: str | None = None,
        retry: Retry | None = None,
        timeout: Duration | None = None,
        **later: Any,
    ) -> _Decorator: ...
    def workflow(
        self,
        function_or_name: Callable[..., Any] | str | None = None,
        /,
        *,
        on: EventTrigger | Sequence[EventTrigger] = (),
        tenant: str | None = None,
        retry: Retry | None = None,
        timeout: Duration | None = None,
        **later: Any,
    ) -> Any:
        """Declare a workflow: an async function with at most one parameter, the event's data.

        on: events that start it. tenant: CEL over `event`. retry: for its steps. timeout:
        the run fails when it takes longer, from its acceptance on. Options of later
        versions are refused by name.
        """
        name = later.pop("name", None)
        if isinstance(function_or_name, str):
            name = function_or_name
        _refuse_later(later, self.name)
        triggers = (on,) if isinstance(on, EventTrigger) else tuple(on)

        def define_one(function: Callable[..., Any]) -> WorkflowDefinition[Any, Any]:
            try:
                timeout_ms = None if timeout is None else to_milliseconds(timeout)
            except ValueError as error:
                raise ConfigurationError(
                    f"timeout of a workflow of app {self.name!r}: {error}"
                ) from error
            definition = define(
                function,
                app=self.name,
                name=name,
                on=triggers,
                tenant=tenant,
                retry=retry or self.retry,
                timeout_ms=timeout_ms,
            )
            self._add(definition)
            return definition

        if callable(function_or_name):
            return define_one(function_or_name)
        return _Decorator(define_one)

    def _add(self, definition: WorkflowDefinition[Any, Any]) -> None:
        if not WORKFLOW_NAME.fullmatch(definition.name):
            raise ConfigurationError(
                f"not a name for a workflow: {definition.name!r}; use letters, digits, _ - ."
            )
        if definition.name in self._workflows:
            raise ConfigurationError(
                f"app {self.name!r} has two workflows named {definition.name!r}; rename one, "
                "or give it a name: @app.workflow('other')"
            )
        self._workflows[definition.name] = definition


LATER_OPTIONS = frozenset(
    {
        "batch",
        "cancel_on",
        "concurrency",
        "debounce",
        "idempotency",
        "key",
        "on_exhausted",
        "on_failure",
        "priority",
        "rate_limit",
        "singleton",
        "throttle",
    }
)


def _refuse_later(options: dict[str, Any], app: str) -> None:
    for option in options:
        if option in LATER_OPTIONS:
            raise NotBuiltError(f"{option}=", f"@app.workflow of app {app!r}")
        raise ConfigurationError(f"@app.workflow of app {app!r} has no option {option!r}")
