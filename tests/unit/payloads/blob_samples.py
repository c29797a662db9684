"""Blobs in memory with a clock that tests move, and what a store does when it breaks."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from stepfold.payloads.blobs import Blobs
from stepfold.payloads.document import name_of
from stepfold.payloads.memory import MemoryStore

TIMEOUT_S = 20.0
HOUR = timedelta(hours=1)
Result = TypeVar("Result")


class Clock:
    def __init__(self) -> None:
        self.now = datetime(2030, 1, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def move(self, by: timedelta) -> None:
        self.now += by


class World:
    """A store and blobs in it; `steps` is what the store was asked to do."""

    def __init__(self, *, call_timeout_s: float = TIMEOUT_S) -> None:
        self.clock = Clock()
        self.steps: list[str] = []
        self.failures: deque[Exception] = deque()
        self.hangs = 0
        self.store = MemoryStore(self.clock, self.go_on)
        self.blobs = self.process(call_timeout_s=call_timeout_s)

    def process(self, *, call_timeout_s: float = TIMEOUT_S) -> Blobs:
        return Blobs(self.store, now=self.clock, call_timeout_s=call_timeout_s, retry_delay_s=0)

    async def go_on(self, step: str) -> None:
        self.steps.append(step)
        if self.hangs:
            self.hangs -= 1
            await asyncio.get_running_loop().create_future()
        if self.failures:
            raise self.failures.popleft()

    async def put(self, content: bytes) -> str:
        name = name_of(content)
        await self.blobs.put(name, content)
        return name

    async def live(self) -> set[str]:
        return {name async for name, _ in self.blobs.listing()}

    async def bin(self) -> set[str]:
        return {name async for name, _ in self.blobs.bin_listing()}


def run(work: Coroutine[Any, Any, Result]) -> Result:
    return asyncio.run(asyncio.wait_for(work, TIMEOUT_S))
