"""What the calls of a run are known by: a name, and how often it was used before, or a key.

The characters that the identities are made with cannot be in a name, or two calls could
have one identity, and one of them would wait for ever.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from stepfold.core.errors import ConfigurationError, StepfoldError
from stepfold.sdk.failures import shown
from stepfold.sdk.functions import definition_of, place_of
from stepfold.sdk.loop import TIMER

STEPS_MAX = 10_000
"""Steps, sleeps and waits of one run."""
STEP_NAME_MAX = 200
KEY_MAX = 200
"""Characters of a name or a key: the identity is in every event of the step."""
FOR_IDENTITIES = frozenset("#[]")
RESERVED = {
    TIMER: "the timers of asyncio.sleep and asyncio.timeout",
    "definition": "the wait for a workflow that is not deployed",
}
"""Names that the engine uses in a run's history, and what for."""


def check_step_name(name: object) -> str:
    """Raises ConfigurationError for what no step, sleep or wait can be called."""
    if not isinstance(name, str) or not 0 < len(name) <= STEP_NAME_MAX:
        raise ConfigurationError(
            f"the name of a step must have 1 to {STEP_NAME_MAX} characters, got {shown(name)}"
        )
    if name in RESERVED:
        raise ConfigurationError(
            f"a step cannot be named {name!r}: the name stands for {RESERVED[name]} in a run's "
            "history; choose another"
        )
    if not FOR_IDENTITIES.isdisjoint(name) or not _is_text(name):
        raise ConfigurationError(
            f"the name of a step is text without # [ ], which tell calls of one name apart; got "
            f"{shown(name)}"
        )
    return name


class TooManyStepsError(StepfoldError):
    """A run made more calls than one run may."""

    def __init__(self) -> None:
        super().__init__(
            f"too_many_steps: the run made more than {STEPS_MAX} calls (steps, sleeps and waits), "
            "the limit; split the work into several runs"
        )


class _First(NamedTuple):
    definition: object
    is_declared: bool


class Names:
    """The names that one run has used."""

    def __init__(self) -> None:
        self._used: dict[str, int] = {}
        self._identities: set[str] = set()
        self._first: dict[str, _First] = {}

    def __len__(self) -> int:
        return len(self._identities)

    def identity(self, name: str, key: str | None) -> str:
        """The identity of the next call of this name."""
        check_step_name(name)
        if key is None:
            self._used[name] = count = self._used.get(name, 0) + 1
            identity = name if count == 1 else f"{name}#{count}"
        else:
            identity = f"{name}[{_checked_key(key)}]"
            if identity in self._identities:
                raise ConfigurationError(
                    f"step {name!r} was called twice with key {key!r} in one run; a key is used "
                    "once"
                )
        self._identities.add(identity)
        return identity

    def check_function(self, name: str, function: Callable[..., Any], is_declared: bool) -> None:
        """A name that @step gives to one function cannot be another's in the same run.

        Names of step.run are free of this: a loop that calls ever another lambda, method or
        partial under one name is normal, and what tells the calls apart is their number.
        """
        definition = definition_of(function)
        first = self._first.setdefault(name, _First(definition, is_declared))
        if first.definition is not definition and (first.is_declared or is_declared):
            raise ConfigurationError(
                f"two functions are called as step {name!r} in one run: "
                f"{place_of(first.definition)} and {place_of(definition)}; "
                "rename one: @step(name=...), or another name in step.run"
            )


def _checked_key(key: object) -> str:
    if not isinstance(key, str) or not 0 < len(key) <= KEY_MAX or not _is_text(key):
        raise ConfigurationError(
            f"the key of a step must be text of 1 to {KEY_MAX} characters, got {shown(key)}"
        )
    return key


def _is_text(value: str) -> bool:
    """Whether UTF-8 can hold it: half a surrogate pair, from broken input, it cannot."""
    return not any("\ud800" <= letter <= "\udfff" for letter in value)
