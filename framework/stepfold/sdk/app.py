"""An app: the workflows that share an inbox, a control and a history topic."""

from __future__ import annotations

import re
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any, Literal, TypeVar, cast, overload

from stepfold.core.durations import Duration
from stepfold.core.errors import ConfigurationError, NotBuiltError
from stepfold.core.retry import Retry
from stepfold.sdk.event import Event
from stepfold.sdk.failures import shown
from stepfold.sdk.functions import callers_names, place_of
from stepfold.sdk.limits import Concurrency
from stepfold.sdk.policies import checked_retry, checked_timeout
from stepfold.sdk.triggers import EventTrigger
from stepfold.sdk.workflow import WorkflowDefinition, define

Input = TypeVar("Input")
Result = TypeVar("Result")

APP_NAME = re.compile(r"[a-z][a-z0-9-]{0,62}")
WORKFLOW_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,127}")
Triggers = EventTrigger | Iterable[EventTrigger]


class WorkflowDecorator:
    """What `@app.workflow(...)` with options returns."""

    def __init__(self, define_one: Callable[[Callable[..., Any], Mapping[str, Any]], Any]) -> None:
        self._define_one = define_one

    @overload
    def __call__(
        self, function: Callable[[Event[Input]], Coroutine[Any, Any, Result]], /
    ) -> WorkflowDefinition[Input, Result]: ...
    @overload
    def __call__(
        self, function: Callable[[Input], Coroutine[Any, Any, Result]], /
    ) -> WorkflowDefinition[Input, Result]: ...
    @overload
    def __call__(
        self, function: Callable[[], Coroutine[Any, Any, Result]], /
    ) -> WorkflowDefinition[None, Result]: ...
    def __call__(self, function: Callable[..., Any], /) -> Any:
        return self._define_one(function, callers_names())


class App:
    """name: `[a-z][a-z0-9-]{0,62}`; it names the topics. retry: for steps that say nothing else.

    version: of the user's code, recorded with each claim of a worker.
    """

    def __init__(
        self, name: str, *, retry: Retry | None = None, version: str | None = None
    ) -> None:
        if not APP_NAME.fullmatch(str(name)):
            raise ConfigurationError(
                f"not a name for an app: {shown(name)}; use a lower-case letter, then up to 62 "
                "lower-case letters, digits or hyphens"
            )
        self.name = name
        self.retry = checked_retry(retry, f"app {name!r}") or Retry()
        self.version = version
        self._workflows: dict[str, WorkflowDefinition[Any, Any]] = {}
        self.workflows = MappingProxyType(self._workflows)

    @overload
    def workflow(
        self, function: Callable[[Event[Input]], Coroutine[Any, Any, Result]], /
    ) -> WorkflowDefinition[Input, Result]: ...
    @overload
    def workflow(
        self, function: Callable[[Input], Coroutine[Any, Any, Result]], /
    ) -> WorkflowDefinition[Input, Result]: ...
    @overload
    def workflow(
        self, function: Callable[[], Coroutine[Any, Any, Result]], /
    ) -> WorkflowDefinition[None, Result]: ...
    @overload
    def workflow(
        self,
        name: str | None = None,
        *,
        on: Triggers = (),
        tenant: str | None = None,
        key: str | None = None,
        retry: Retry | None = None,
        timeout: Duration | None = None,
        concurrency: Concurrency | Sequence[Concurrency] = (),
        throttle: object = None,
        rate_limit: object = None,
        debounce: object = None,
        batch: object = None,
        singleton: object = None,
        priority: object = None,
        cancel_on: Triggers = (),
        idempotency: str | None = None,
        on_failure: object = None,
        on_exhausted: Literal["fail", "pause"] = "fail",
    ) -> WorkflowDecorator: ...
    def workflow(
        self,
        *names: Callable[..., Any] | str | None,
        on: Triggers = (),
        tenant: str | None = None,
        retry: Retry | None = None,
        timeout: Duration | None = None,
        **options: Any,
    ) -> Any:
        """Declare a workflow: an async function with at most one parameter, the event's data.

        name: the function's, if none is given. on: events that start it. tenant: CEL over
        `event`. retry: for its steps. timeout: the run fails when it takes longer, from its
        acceptance on. The other options are of later versions, and refused by name.
        """
        function_or_name = names[0] if names else options.pop("name", None)
        where = f"@app.workflow of app {self.name!r}"
        if len(names) > 1 or not (callable(function_or_name) or _is_name(function_or_name)):
            raise ConfigurationError(
                f"{where} takes a name, got {', '.join(map(shown, names)) or function_or_name!r}"
            )
        _refuse_later(options, where)
        triggers = _checked_triggers(on, where)
        timeout_ms = checked_timeout(timeout, where)
        checked_retry(retry, where)

        def define_one(
            function: Callable[..., Any], local_names: Mapping[str, Any]
        ) -> WorkflowDefinition[Any, Any]:
            definition = define(
                function,
                app=self.name,
                name=None if callable(function_or_name) else function_or_name,
                on=triggers,
                tenant=tenant,
                retry=retry or self.retry,
                timeout_ms=timeout_ms,
                names=local_names,
            )
            self._add(definition)
            return definition

        if callable(function_or_name):
            return define_one(function_or_name, callers_names())
        return WorkflowDecorator(define_one)

    def with_stand_ins(self, steps: Mapping[str, Callable[..., Any]]) -> App:
        """The same app for a test: steps of these names call these functions instead."""
        app = App(self.name, retry=self.retry, version=self.version)
        for definition in self._workflows.values():
            app._add(replace(definition, stand_ins=dict(steps)))
        return app

    def _add(self, definition: WorkflowDefinition[Any, Any]) -> None:
        if not WORKFLOW_NAME.fullmatch(definition.name):
            raise ConfigurationError(
                f"not a name for a workflow of app {self.name!r}: {shown(definition.name)}; begin "
                "with a letter or _, go on with up to 127 letters, digits, _ - or ."
            )
        if definition.name in self._workflows:
            raise ConfigurationError(
                f"app {self.name!r} has two workflows named {definition.name!r}: "
                f"{place_of(self._workflows[definition.name].function)} and "
                f"{place_of(definition.function)}; rename one, or give it a name: "
                "@app.workflow('other')"
            )
        self._workflows[definition.name] = definition


LATER_OPTIONS = {
    "batch": None,
    "cancel_on": (),
    "concurrency": (),
    "debounce": None,
    "idempotency": None,
    "key": None,
    "on_exhausted": "fail",
    "on_failure": None,
    "priority": None,
    "rate_limit": None,
    "singleton": None,
    "throttle": None,
}
"""Options of the contract that this version lacks, with the value that asks for nothing."""


def _refuse_later(options: Mapping[str, Any], where: str) -> None:
    for option, value in options.items():
        if option not in LATER_OPTIONS:
            raise ConfigurationError(f"{where} has no option {option!r}")
        if value != LATER_OPTIONS[option]:
            raise NotBuiltError(f"{option}=", where)


def _is_name(value: object) -> bool:
    return value is None or isinstance(value, str)


def _checked_triggers(on: object, where: str) -> tuple[EventTrigger, ...]:
    """A string is iterable, too, and would start the workflow for nothing."""
    triggers: tuple[object, ...] = (on,)
    if isinstance(on, Iterable) and not isinstance(on, str | bytes):
        triggers = tuple(cast("Iterable[object]", on))
    for trigger in triggers:
        if not isinstance(trigger, EventTrigger):
            raise ConfigurationError(
                f"on= of {where} takes event(...), got {shown(trigger)}; "
                'write on=[event("agent/run")]'
            )
    return cast("tuple[EventTrigger, ...]", triggers)
