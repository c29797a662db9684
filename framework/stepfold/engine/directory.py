"""Where the apps are whose runs and inboxes this process's runs send to."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TypeAlias

from stepfold.core.errors import StepfoldError
from stepfold.journal.port import AppTopics

logger = logging.getLogger(__name__)

TRIES_MAX = 5
RETRY_S = 1.0

Answer: TypeAlias = AppTopics | StepfoldError


class Directory:
    """describe: asks Kafka for an app's topics, and raises StepfoldError when it has none."""

    def __init__(self, describe: Callable[[str], Awaitable[AppTopics]]) -> None:
        self._describe = describe
        self._known: dict[str, AppTopics] = {}
        self._asking: dict[str, asyncio.Task[None]] = {}
        self._waiting: dict[str, list[Callable[[Answer], None]]] = {}

    def note(self, app: str, topics: AppTopics) -> None:
        self._known[app] = topics

    def topics_of(self, app: str) -> AppTopics | None:
        """None when it has to be asked for."""
        return self._known.get(app)

    def ask(self, app: str, answered: Callable[[Answer], None]) -> None:
        """The answer comes on the loop, as the topics, or as the error of the last try."""
        self._waiting.setdefault(app, []).append(answered)
        if app not in self._asking:
            self._asking[app] = asyncio.get_running_loop().create_task(
                self._find(app), name=f"topics of {app}"
            )

    def close(self) -> None:
        for task in self._asking.values():
            task.cancel()

    async def _find(self, app: str) -> None:
        answer = await self._described(app)
        del self._asking[app]
        if not isinstance(answer, StepfoldError):
            self.note(app, answer)
        loop = asyncio.get_running_loop()
        for answered in self._waiting.pop(app, ()):
            # From a callback: the loops of runs must not be entered from inside a task.
            loop.call_soon(answered, answer)

    async def _described(self, app: str) -> Answer:
        tries = 0
        while True:
            tries += 1
            try:
                return await self._describe(app)
            except StepfoldError as error:
                if tries >= TRIES_MAX:
                    return error
                logger.warning("topics of an app are not there yet", extra={"app": app})
            await asyncio.sleep(RETRY_S)
