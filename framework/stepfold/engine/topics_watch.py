"""Whether an app's topics are still those that this worker began with.

A topic that is deleted and made again has the old name and new records: a reader at its
old position would pass over the first of them, and an empty history would be taken for a
new one, with every trigger to take again. Kafka's client does not tell; the topic's id does.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from stepfold.core.errors import StepfoldError, UnsafeTopicError
from stepfold.journal.port import AppTopics

logger = logging.getLogger(__name__)

CHECK_INTERVAL_S = 10.0
"""How long a topic that was made again may go unnoticed."""


class TopicsWatch:
    """`changed` says what is not as it was; None: nothing that is known."""

    def __init__(
        self, app: str, topics: AppTopics, describe: Callable[[str], Awaitable[AppTopics]]
    ) -> None:
        self.changed: str | None = None
        self._app = app
        self._topics = topics
        self._describe = describe
        self._loop = asyncio.get_running_loop()
        self._looking = asyncio.Lock()
        self._seen_at = self._loop.time()
        self._refusal = ""

    async def run(self) -> None:
        """Look from time to time, until cancelled."""
        while True:
            await asyncio.sleep(CHECK_INTERVAL_S)
            await self.look(self._loop.time())

    async def look(self, since: float) -> None:
        """See the topics as they are at this time of the loop, or later.

        No answer is no change: whoever cannot ask Kafka cannot append to it either.
        """
        async with self._looking:  # shards that are claimed together ask once
            if self._seen_at >= since:
                return
            asked_at = self._loop.time()
            try:
                now = await self._describe(self._app)
            except UnsafeTopicError as error:
                self._note_refusal(str(error))
                return
            except StepfoldError as error:
                logger.debug(
                    "topics are not described", extra={"app": self._app, "why": str(error)}
                )
                return
            self._refusal = ""
            self._seen_at = asked_at
            self.changed = self._difference(now)

    def _note_refusal(self, refusal: str) -> None:
        """Said once: this worker began before the setting was changed, and leads on."""
        if refusal != self._refusal:
            self._refusal = refusal
            logger.error("topics became unsafe", extra={"app": self._app, "reason": refusal})

    def _difference(self, now: AppTopics) -> str | None:
        for was, is_now in zip(self._topics[:4], now[:4], strict=True):
            if (was.topic_id, was.partitions) != (is_now.topic_id, is_now.partitions):
                return (
                    f"topic {was.name} is not the one that this worker began with (id"
                    f" {was.topic_id}, {was.partitions} partitions; now {is_now.topic_id},"
                    f" {is_now.partitions}): it was re-created or changed; restore it, and restart"
                    " the worker"
                )
        return None
