"""Sees to it that a process whose event loop does not turn is noticed, and ended at last.

Three eyes, because each is blind to something. A thread names the step that blocks the
loop. The group's thread (`journal.inbox`) stops to poll and ends the process after 20 s
(rule R15). Both need the interpreter's lock, which native code may hold for ever; so the
last is a thread of faulthandler's, which needs no lock and prints where everybody stands.
"""

from __future__ import annotations

import asyncio
import faulthandler
import logging
import sys
import threading
import time
import traceback

logger = logging.getLogger(__name__)

BLOCKED_LOOP_S = 1.0
"""A step that keeps the loop from turning for this long is reported by name."""
HEARTBEAT_S = 0.25
LAST_RESORT_AFTER_S = 5.0
"""Beyond the time after which the group's thread would have ended the process."""
LAST_RESORT_BEAT_S = 1.0


class LoopWatch:
    """Reports by name the task that keeps the loop from turning.

    A thread of its own: what it watches for is just what would keep a task from running.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._beat_at = time.monotonic()
        self._closed = threading.Event()
        self._beat()
        self._thread = threading.Thread(target=self._watch, name="loop-watch", daemon=True)
        self._thread_id = threading.get_ident()
        self._thread.start()

    def close(self) -> None:
        self._closed.set()
        self._handle.cancel()

    def _beat(self) -> None:
        self._beat_at = time.monotonic()
        self._handle = self._loop.call_later(HEARTBEAT_S, self._beat)

    def _watch(self) -> None:
        reported_for = 0.0
        while not self._closed.wait(HEARTBEAT_S):
            blocked_s = time.monotonic() - self._beat_at
            if blocked_s < BLOCKED_LOOP_S + HEARTBEAT_S or reported_for == self._beat_at:
                continue
            reported_for = self._beat_at
            task = asyncio.current_task(self._loop)
            frames = sys._current_frames()  # pyright: ignore[reportPrivateUsage]
            frame = frames.get(self._thread_id)
            stack = "".join(traceback.format_stack(frame, limit=6)) if frame else ""
            logger.warning(
                "step blocks the event loop",
                extra={
                    "step": task.get_name() if task is not None else "unknown",
                    "blocked_s": round(blocked_s, 1),
                    "stack": stack,
                },
            )


class LastResort:
    """Ends the process with exit code 1 when nothing else could, stacks on standard error."""

    def __init__(self, loop: asyncio.AbstractEventLoop, stale_loop_s: float) -> None:
        self._loop = loop
        self._after_s = stale_loop_s + LAST_RESORT_AFTER_S
        self._beat()

    def close(self) -> None:
        self._handle.cancel()
        faulthandler.cancel_dump_traceback_later()

    def _beat(self) -> None:
        faulthandler.dump_traceback_later(self._after_s, exit=True)
        self._handle = self._loop.call_later(LAST_RESORT_BEAT_S, self._beat)
