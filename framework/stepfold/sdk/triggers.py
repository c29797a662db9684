"""What starts a workflow by itself: events, with a filter in CEL.

Filters and keys are compiled when the app loads, and a wrong one stops the start with
the place marked. While running, an expression that cannot be evaluated (a key that is
not there) is no match: one odd event must not stop the intake of the others.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from stepfold.core.errors import ConfigurationError, NotBuiltError
from stepfold.sdk.failures import shown
from stepfold.sdk.payload import decode_or_none

EVENT_NAME_MAX = 512
"""Intake takes no event with a longer name."""


class EventView:
    """An event as filters see it; its data is parsed when the first one asks."""

    def __init__(self, *, name: str, id: str, payload: bytes) -> None:  # noqa: A002
        self.name = name
        self.id = id
        self._payload = payload

    @cached_property
    def variables(self) -> dict[str, Any]:
        data = decode_or_none(self._payload)
        return {"event": {"name": self.name, "id": self.id, "data": data}}


class Expression:
    """A CEL expression over `event`. Raises ConfigurationError when it does not compile."""

    def __init__(self, text: str, where: str) -> None:
        from cel_expr_python import cel  # pyright: ignore[reportMissingTypeStubs]

        self.text = text
        environment = cel.NewEnv(variables={"event": cel.Type.DYN})
        try:
            self._compiled = environment.compile(text)
        except TypeError:
            raise ConfigurationError(
                f"the expression of {where} must be text, got {shown(text)}; write CEL over `event`"
            ) from None
        except RuntimeError as error:
            reason = (
                str(error).removeprefix("INVALID_ARGUMENT: ").removesuffix(" [INVALID_ARGUMENT]")
            )
            raise ConfigurationError(
                f"the expression of {where} does not compile:\n{reason}\n"
                "write CEL over `event` (event.name, event.id, event.data)"
            ) from error

    def evaluate(self, view: EventView) -> object:
        """The value; None when the expression cannot be evaluated for this event."""
        from cel_expr_python import cel  # pyright: ignore[reportMissingTypeStubs]

        result = self._compiled.eval(data=view.variables)
        return None if result.type() == cel.Type.ERROR else result.value()


@dataclass(frozen=True, slots=True)
class EventTrigger:
    name: str
    filter: Expression | None

    def matches(self, view: EventView) -> bool:
        if view.name != self.name:
            return False
        return self.filter is None or self.filter.evaluate(view) is True


def event(name: str, *, if_: str | None = None) -> EventTrigger:
    """Start the workflow for events of this name that pass the filter."""
    if not 0 < len(str(name)) <= EVENT_NAME_MAX:
        raise ConfigurationError(
            f"event(name) needs the name of an event, 1 to {EVENT_NAME_MAX} characters such as "
            f'"agent/run"; got {shown(name)}'
        )
    where = f"event({name!r}, if_=...)"
    return EventTrigger(name, None if if_ is None else Expression(if_, where))


def cron(expression: str, *, timezone: str = "UTC", input: object = None) -> EventTrigger:  # noqa: A002
    """Start the workflow by the clock. Not available yet."""
    raise NotBuiltError("cron(...)", f"cron({expression!r}, timezone={timezone!r})")
