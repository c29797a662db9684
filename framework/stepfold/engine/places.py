"""Who may run: a bound on all attempts, slow start for suspects, few isolated ones at once.

A suspect is a step whose process died once while it ran, guilty or not. Were all of them
started again together, the next death would tell no more than the first. So they come
back one, two, four … at a time, the one that was started last first: what kills a process
mostly does it soon. Whoever ends makes room for more, and so does time in which nobody
died, because an honest call to a model may take minutes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable
from enum import Enum
from typing import NamedTuple, TypeAlias

ATTEMPTS_RUNNING_MAX = 2_000
"""Attempts that run at once in one process; further ones wait for a place."""
ISOLATED_MAX = 4
"""Attempts that run at once in processes of their own: each costs the memory of an
interpreter with the user's modules."""
SLOW_START_S = 0.5
"""Twice as many suspects may run whenever this time has passed and the process still lives."""

Waiter: TypeAlias = Callable[[], None]


class Kind(Enum):
    ORDINARY = "ordinary"
    SUSPECT = "suspect"
    ISOLATED = "isolated"


class _Waiting(NamedTuple):
    since: int
    waiter: Waiter


class Places:
    """suspects_first: so many start at once before anything is known of them."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        *,
        running_max: int = ATTEMPTS_RUNNING_MAX,
        isolated_max: int = ISOLATED_MAX,
        slow_start_s: float = SLOW_START_S,
        suspects_first: int = 1,
    ) -> None:
        self._loop = loop
        self._running_max = running_max
        self._isolated_max = isolated_max
        self._slow_start_s = slow_start_s
        self._suspects_first = self._suspects_max = suspects_first
        self._taken: dict[Hashable, Kind] = {}
        self._counts = dict.fromkeys(Kind, 0)
        self._waiting: dict[Kind, dict[Hashable, _Waiting]] = {kind: {} for kind in Kind}
        self._widening: asyncio.TimerHandle | None = None

    def has_room(self, kind: Kind) -> bool:
        if len(self._taken) >= self._running_max:
            return False
        match kind:
            case Kind.ORDINARY:
                return True
            case Kind.SUSPECT:
                return self._counts[kind] < self._suspects_max
            case Kind.ISOLATED:
                return self._counts[kind] < self._isolated_max

    def ask(self, name: Hashable, kind: Kind, waiter: Waiter, *, since: int = 0) -> None:
        """Call back once, when there may be room; who asks again keeps the place in the line.

        The later waiter counts: the earlier may be of a leader that is gone.
        since: when a suspect was first started, in broker milliseconds.
        """
        self._waiting[kind][name] = _Waiting(since, waiter)
        if kind is Kind.SUSPECT:
            self._widen_later()

    def take(self, key: Hashable, kind: Kind) -> None:
        self.free(key)
        self._taken[key] = kind
        self._counts[kind] += 1

    def free(self, key: Hashable) -> None:
        kind = self._taken.pop(key, None)
        if kind is None:
            return
        self._counts[kind] -= 1
        if kind is Kind.SUSPECT:
            self._suspects_max += 1
        self._let_in()

    def close(self) -> None:
        if self._widening is not None:
            self._widening.cancel()

    def _let_in(self) -> None:
        for kind in Kind:
            waiting = self._waiting[kind]
            while waiting and self.has_room(kind):
                waiting.pop(_first(waiting, kind)).waiter()
        if not self._waiting[Kind.SUSPECT] and not self._counts[Kind.SUSPECT]:
            self._suspects_max = self._suspects_first

    def _widen_later(self) -> None:
        if self._widening is None:
            self._widening = self._loop.call_later(self._slow_start_s, self._widen)

    def _widen(self) -> None:
        self._widening = None
        self._suspects_max *= 2
        self._let_in()
        if self._waiting[Kind.SUSPECT]:
            self._widen_later()


def _first(waiting: dict[Hashable, _Waiting], kind: Kind) -> Hashable:
    if kind is Kind.SUSPECT:
        return max(waiting, key=lambda name: waiting[name].since)
    return next(iter(waiting))
