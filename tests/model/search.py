"""Breadth-first search of a machine's states, with the shortest way to the first wrong one.

A machine yields raw successors, in which every worker keeps its name, and says which of them
are alike: the search keeps one of each kind. The way to a wrong state is found by walking
again from the start, so that it reads as one story with the same names throughout.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Iterable
from typing import NamedTuple, Protocol, TypeAlias, TypeVar

Label: TypeAlias = tuple[object, ...]
"""A format and what goes into it; put together only for the steps of a trace."""


class Step(NamedTuple):
    label: Label
    to: object


class State(Protocol):
    @property
    def wrong(self) -> str:
        """The promise that is broken here, in words; empty: none."""
        ...

    def __hash__(self) -> int: ...


S = TypeVar("S", bound=State)


class Machine(Protocol[S]):
    def initial(self) -> S: ...

    def successors(self, state: S) -> Iterable[tuple[Label, S]]: ...

    def canonical(self, state: S) -> S:
        """The one that stands for all states that differ from this one in names only."""
        ...

    def stuck(self, state: S) -> str:
        """Why no good end can be reached from here without further faults; empty: it can."""
        ...


class Outcome(NamedTuple):
    """wrong: the first broken promise in breadth-first order, with the way to it."""

    states: int
    depth: int
    seconds: float
    is_exhausted: bool
    wrong: str
    trace: tuple[str, ...]


def search(machine: Machine[S], *, states_max: int = 10_000_000) -> Outcome:
    """Every state that can be reached, until the first wrong one."""
    began = time.process_time()
    collects = gc.isenabled()
    # States are trees of tuples: looking for cycles in them takes a third of the time.
    gc.disable()
    try:
        parents, depth, wrong = _explore(machine, states_max)
        if wrong is None:
            # What is lost or doubled is told before what merely stands still.
            wrong = next((state for state in parents if machine.stuck(state)), None)
    finally:
        if collects:
            gc.enable()
    seconds = time.process_time() - began
    reason = "" if wrong is None else wrong.wrong or machine.stuck(wrong)
    trace = () if wrong is None else _trace(machine, _way(parents, wrong))
    return Outcome(
        states=len(parents),
        depth=depth,
        seconds=seconds,
        is_exhausted=wrong is None and len(parents) < states_max,
        wrong=reason,
        trace=trace,
    )


def _explore(machine: Machine[S], states_max: int) -> tuple[dict[S, S | None], int, S | None]:
    start = machine.canonical(machine.initial())
    parents: dict[S, S | None] = {start: None}
    level, depth = [start], 0
    while level:
        following: list[S] = []
        for state in level:
            for _, raw in machine.successors(state):
                reached = machine.canonical(raw)
                if reached in parents:
                    continue
                parents[reached] = state
                if reached.wrong:
                    return parents, depth + 1, reached
                following.append(reached)
            if len(parents) >= states_max:
                return parents, depth, None
        level = following
        depth += 1
    return parents, depth - 1, None


def _way(parents: dict[S, S | None], end: S) -> list[S]:
    way = [end]
    while (before := parents[way[-1]]) is not None:
        way.append(before)
    return way[::-1]


def _trace(machine: Machine[S], way: list[S]) -> tuple[str, ...]:
    state = machine.initial()
    lines: list[str] = []
    for wanted in way[1:]:
        label, state = next(
            (label, raw)
            for label, raw in machine.successors(state)
            if machine.canonical(raw) == wanted
        )
        lines.append(str(label[0]).format(*label[1:]))
    return tuple(lines)
