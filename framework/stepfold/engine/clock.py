"""Broker time, and waking up at it.

Due times are broker time, so that owners on machines with different clocks agree. The
offset of this machine's clock is estimated from the broker timestamps of proofs. Tests
put a clock in its place that they move by hand.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Protocol

OFFSET_SMOOTHING = 0.1
"""Weight of the newest sample in the moving estimate of the offset."""


class Handle(Protocol):
    def cancel(self) -> None: ...


class Clock(Protocol):
    def now_ms(self) -> int:
        """Broker time by the present estimate, in milliseconds since 1970."""
        ...

    def observe(self, broker_ms: int) -> None:
        """A record was just stamped with this time by the broker."""
        ...

    def call_at(self, due_ms: int, callback: Callable[[], None]) -> Handle:
        """Call back on the loop, not before the due time."""
        ...


class BrokerClock:
    """The system's clock, corrected by the offset seen in proofs."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, wall_s: Callable[[], float] = time.time
    ) -> None:
        self._loop = loop
        self._wall_s = wall_s
        self.offset_ms: float | None = None

    def now_ms(self) -> int:
        return int(self._wall_s() * 1_000 + (self.offset_ms or 0.0))

    def observe(self, broker_ms: int) -> None:
        if broker_ms <= 0:
            return
        sample = broker_ms - self._wall_s() * 1_000
        if self.offset_ms is None:
            # The stamp is older than its report by the way back; below a few
            # milliseconds that is all there is to see, and no offset at all.
            self.offset_ms = 0.0 if abs(sample) < 50 else sample
        elif abs(sample - self.offset_ms) > 50:
            self.offset_ms += OFFSET_SMOOTHING * (sample - self.offset_ms)

    def call_at(self, due_ms: int, callback: Callable[[], None]) -> Handle:
        delay_s = max(0.0, (due_ms - self.now_ms()) / 1_000)
        return self._loop.call_later(delay_s, callback)
