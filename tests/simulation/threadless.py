"""Threads without a thread: a plain function runs by itself, a moment later."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable
from typing import Any

from stepfold.engine.threads import Outcome, Threads

CALLS_MAX = 64
DELAY_S = 0.000_05


class Threadless(Threads):
    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop, CALLS_MAX)
        self._sim_loop = loop

    async def call(self, function: Callable[[], Any]) -> Outcome:
        context = contextvars.copy_context()
        answer: asyncio.Future[Outcome] = self._sim_loop.create_future()

        def work() -> None:
            if answer.done():
                return
            try:
                answer.set_result((context.run(function), None))
            except Exception as error:  # noqa: BLE001 - as a thread hands it over
                answer.set_result((None, error))

        self._sim_loop.call_later(DELAY_S, work)
        return await answer
