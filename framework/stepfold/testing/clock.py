"""A clock that stands still until a test moves it."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Callable


class Alarm:
    """Goes off once, unless it is cancelled before."""

    def __init__(self, due_ms: int, callback: Callable[[], None]) -> None:
        self.due_ms = due_ms
        self.is_cancelled = False
        self._callback = callback

    def cancel(self) -> None:
        self.is_cancelled = True

    def go_off(self) -> None:
        if not self.is_cancelled:
            self._callback()


class ManualClock:
    """A Clock of the engine. What is due is called on the loop, as by any clock."""

    def __init__(self, now_ms: int) -> None:
        self._now_ms = now_ms
        self._alarms: list[tuple[int, int, Alarm]] = []
        self._numbers = itertools.count()
        self._ringing = 0

    def now_ms(self) -> int:
        return self._now_ms

    def observe(self, broker_ms: int) -> None:
        """The log is stamped by this very clock: there is nothing to learn from it."""

    def call_at(self, due_ms: int, callback: Callable[[], None]) -> Alarm:
        alarm = Alarm(due_ms, callback)
        if due_ms <= self._now_ms:
            self._ring(alarm)
        else:
            heapq.heappush(self._alarms, (due_ms, next(self._numbers), alarm))
        return alarm

    @property
    def is_quiet(self) -> bool:
        """Whether nothing that is due is still to be called."""
        return self._ringing == 0

    @property
    def next_due_ms(self) -> int | None:
        while self._alarms and self._alarms[0][2].is_cancelled:
            heapq.heappop(self._alarms)
        return self._alarms[0][0] if self._alarms else None

    def ring_next(self) -> None:
        """Move to the next alarm, and let it go off."""
        if self.next_due_ms is not None:
            due_ms, _, alarm = heapq.heappop(self._alarms)
            self._now_ms = max(self._now_ms, due_ms)
            self._ring(alarm)

    def move_to(self, now_ms: int) -> None:
        """To a moment before which no alarm is left."""
        self._now_ms = max(self._now_ms, now_ms)

    def _ring(self, alarm: Alarm) -> None:
        """From a callback, as the engine wants it: runs are not entered from inside a task."""
        self._ringing += 1
        asyncio.get_running_loop().call_soon(self._go_off, alarm)

    def _go_off(self, alarm: Alarm) -> None:
        self._ringing -= 1
        alarm.go_off()
