"""What the calls of a run are known by: a name, and how often it was used before, or a key.

The characters that the identities are made with cannot be in a name, or two calls could
have one identity, and one of them would wait for ever.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

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


class _Used:
    """A name of this run: how often it was used, and the first function that was called by it."""

    __slots__ = ("count", "definition", "is_declared")

    def __init__(self) -> None:
        self.count = 0
        self.definition: object = None
        self.is_declared = False


class Names:
    """The names that one run has used; its length is the number of its calls."""

    __slots__ = ("_calls", "_keyed", "_used")

    def __init__(self) -> None:
        self._calls = 0
        self._used: dict[str, _Used] = {}
        self._keyed: frozenset[str] | set[str] = frozenset()

    def __len__(self) -> int:
        return self._calls

    def identity(self, name: str, key: str | None) -> str:
        """The identity of the next call of this name."""
        used = self._use(name)
        if key is None:
            used.count += 1
            identity = name if used.count == 1 else f"{name}#{used.count}"
        else:
            identity = self._keyed_identity(name, key)
        self._calls += 1
        return identity

    def check_function(self, name: str, function: Callable[..., Any], is_declared: bool) -> None:
        """A name that @step gives to one function cannot be another's in the same run.

        Names of step.run are free of this: a loop that calls ever another lambda, method or
        partial under one name is normal, and what tells the calls apart is their number.
        """
        used, definition = self._use(name), definition_of(function)
        if used.definition is None:
            used.definition, used.is_declared = definition, is_declared
        elif used.definition is not definition and (used.is_declared or is_declared):
            raise ConfigurationError(
                f"two functions are called as step {name!r} in one run: "
                f"{place_of(used.definition)} and {place_of(definition)}; "
                "rename one: @step(name=...), or another name in step.run"
            )

    def _use(self, name: str) -> _Used:
        used = self._used.get(name)
        if used is None:
            used = self._used[check_step_name(name)] = _Used()
        return used

    def _keyed_identity(self, name: str, key: str) -> str:
        identity = f"{name}[{_checked_key(key)}]"
        if identity in self._keyed:
            raise ConfigurationError(
                f"step {name!r} was called twice with key {key!r} in one run; a key is used once"
            )
        if not isinstance(self._keyed, set):
            self._keyed = set()
        self._keyed.add(identity)
        return identity


def _checked_key(key: object) -> str:
    if not isinstance(key, str) or not 0 < len(key) <= KEY_MAX or not _is_text(key):
        raise ConfigurationError(
            f"the key of a step must be text of 1 to {KEY_MAX} characters, got {shown(key)}"
        )
    return key


def _is_text(value: str) -> bool:
    """Whether UTF-8 can hold it: half a surrogate pair, from broken input, it cannot."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
