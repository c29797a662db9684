"""A rule: one thing that a record may not do, given what the log has told before it.

A rule is a function of an event and the moment it comes in; it returns a sentence where
the event breaks it, and None where it does not. To add one, write it in a module of
`rules` with the decorator, and a test that plants the violation.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Flag
from typing import Any, TypeAlias, get_args, get_type_hints

from stepfold.verify.story import Moment

CLOCK_TOLERANCE_MS = 1_000
"""How much too early something may seem to happen. Due times are the writer's estimate of
broker time, and what they are compared with are the stamps of brokers, whose clocks differ."""


class Scope(Flag):
    """Which records a rule looks at."""

    COUNTING = 1
    VOID = 2
    ALL = 3


Check: TypeAlias = Callable[[Any, Moment], str | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    name: str
    invariant: str
    """I1 to I8 of the protocol, or the rule of it (R…) that is broken."""
    kinds: tuple[type[Any], ...]
    scope: Scope
    check: Check


def rule(invariant: str, scope: Scope = Scope.COUNTING) -> Callable[[Check], Rule]:
    """For the kinds of events that the function's first parameter, `event`, may have."""

    def make(check: Check) -> Rule:
        hint = get_type_hints(check)["event"]
        return Rule(
            name=check.__name__.replace("_", "-"),
            invariant=invariant,
            kinds=get_args(hint) or (hint,),
            scope=scope,
            check=check,
        )

    return make
