"""Threads for steps that are plain functions.

A thread cannot be ended from outside: a step that was given up goes on in its own. Such a
thread must neither keep the next step waiting nor the process from ending, so only calls
that somebody waits for take a place, and all threads are daemons.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, NamedTuple, TypeAlias

logger = logging.getLogger(__name__)

Outcome: TypeAlias = tuple[Any, BaseException | None]


class _Job(NamedTuple):
    work: Callable[[], Outcome]
    answer: asyncio.Future[Outcome]


class Threads:
    """room: has to be held during `call`; it bounds how many calls are waited for at once."""

    def __init__(self, loop: asyncio.AbstractEventLoop, calls_max: int) -> None:
        self.room = asyncio.Semaphore(calls_max)
        self._loop = loop
        self._calls_max = calls_max
        self._idle: list[_Thread] = []
        self._is_closed = False

    async def call(self, function: Callable[[], Any]) -> Outcome:
        """What the function returns or raises; a cancellation does not reach it."""
        context = contextvars.copy_context()
        answer: asyncio.Future[Outcome] = self._loop.create_future()
        thread = self._idle.pop() if self._idle else _Thread(self._loop, self._take_back)
        thread.do(_Job(lambda: context.run(_caught, function), answer))
        try:
            return await answer
        except asyncio.CancelledError:
            task = asyncio.current_task()
            logger.warning(
                "step goes on in its thread after it was given up",
                extra={"step": task.get_name() if task is not None else "unknown"},
            )
            raise

    def close(self) -> None:
        """Whatever still runs ends with the process."""
        self._is_closed = True
        for thread in self._idle:
            thread.end()
        self._idle.clear()

    def _take_back(self, thread: _Thread) -> None:
        if self._is_closed or len(self._idle) >= self._calls_max:
            thread.end()
        else:
            self._idle.append(thread)


class _Thread:
    """One thread, which does one job after the other."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, take_back: Callable[[_Thread], None]
    ) -> None:
        self._loop = loop
        self._take_back = take_back
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        threading.Thread(target=self._work, name="step", daemon=True).start()

    def do(self, job: _Job) -> None:
        self._jobs.put(job)

    def end(self) -> None:
        self._jobs.put(None)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            outcome = job.work()
            with contextlib.suppress(RuntimeError):  # the loop was closed
                self._loop.call_soon_threadsafe(self._done, job.answer, outcome)

    def _done(self, answer: asyncio.Future[Outcome], outcome: Outcome) -> None:
        if not answer.done():
            answer.set_result(outcome)
        self._take_back(self)


def _caught(function: Callable[[], Any]) -> Outcome:
    """Value or error: no future takes a StopIteration, so the step would never end."""
    try:
        return function(), None
    except BaseException as error:  # noqa: BLE001 - it is raised where it can be
        return None, error
