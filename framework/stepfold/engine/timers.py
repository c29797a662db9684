"""When which run is to be looked at: a heap of due times, and one alarm for the first.

Due times are fold state; what is kept here is only a hint that may be late, early or
double. Runs are woken in slices, so that a storm of due timers leaves the loop its turns.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable

from stepfold.engine.clock import Clock, Handle

WAKES_PER_SLICE = 200
"""Runs woken before the loop gets its turn again (rule R21)."""


class Wakes:
    def __init__(self, clock: Clock, wake: Callable[[str], None]) -> None:
        self._clock = clock
        self._wake = wake
        self._due: list[tuple[int, str]] = []
        self._alarm: Handle | None = None
        self._alarm_at = 0
        self._is_stopped = False
        self._is_held = False

    def add(self, due: int, run_id: str) -> None:
        heapq.heappush(self._due, (due, run_id))
        self._set_alarm()

    def hold(self) -> None:
        """Wake nobody until `release`; what is due by then is woken then."""
        self._is_held = True

    def release(self) -> None:
        self._is_held = False
        self._set_alarm()

    def stop(self) -> None:
        self._is_stopped = True
        self._due.clear()
        if self._alarm is not None:
            self._alarm.cancel()

    def _set_alarm(self) -> None:
        if not self._due or self._is_stopped or self._is_held:
            return
        due = self._due[0][0]
        if self._alarm is not None:
            if self._alarm_at <= due:
                return
            self._alarm.cancel()
        self._alarm_at = due
        self._alarm = self._clock.call_at(due, self._ring)

    def _ring(self) -> None:
        self._alarm = None
        if self._is_held:
            return
        now = self._clock.now_ms()
        for _ in range(WAKES_PER_SLICE):
            if not self._due or self._due[0][0] > now:
                break
            self._wake(heapq.heappop(self._due)[1])
        self._set_alarm()
