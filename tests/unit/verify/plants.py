"""Violations, each planted in a log that is right but for it.

A plant writes what an owner must not write, and returns the offset at which the check
has to report it. `also` names what cannot be broken alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from tests.unit.verify.logs import Log

Write: TypeAlias = Callable[[Log], int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plant:
    rule: str
    name: str
    also: tuple[str, ...]
    write: Write


def plant(rule: str, *, also: tuple[str, ...] = ()) -> Callable[[Write], Plant]:
    def make(write: Write) -> Plant:
        return Plant(rule=rule, name=write.__name__.replace("_", " "), also=also, write=write)

    return make
