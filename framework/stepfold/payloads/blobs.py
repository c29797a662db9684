"""Blobs by the hash of their content, in a store that may be slow, down or damaged.

Here is what holds for every store: content is checked against its name when it is read, a
call that failed is tried again a few times, each has a deadline, and there is a bin.

*The bin.* A blob that nothing refers to is not deleted but moved to the bin (`sweep`), and
deleted from there a grace period later, if still nothing refers to it. For it may have become
referred to at that very moment: a bucket cannot delete on condition, so between the
look at a blob and its deletion somebody may have stored the same content again. Whoever misses
a blob finds it in the bin, and the next sweep puts it back.

*Freshness.* When `put` returns, the blob was modified at most half a grace period ago, so no
sweep takes it away before the event that refers to it is in the log.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TypeVar

from stepfold.payloads.document import NAME, PREFIX, name_of
from stepfold.payloads.errors import (
    BlobMissingError,
    BlobUnavailableError,
    PayloadDamagedError,
)
from stepfold.payloads.fan_out import for_each
from stepfold.payloads.port import BlobStore, StoredBlob

GRACE = timedelta(hours=24)
"""How long a blob that nothing refers to is kept, and then once more in the bin."""
CALLS_MAX = 32
"""Calls to the store at a time, in one process. A payload of 200 KiB has 300 blobs at first: at
30 ms a call, they are stored in a third of a second."""
CALL_TIMEOUT_S = 60.0
"""For one try: 64 MiB at 10 Mbit/s take as long."""
TRIES_MAX = 4
RETRY_DELAY_S = 0.1
"""Before the second try; four times as long before each further one, plus or minus a half."""

LIVE = "blobs/"
BIN = "bin/"

Item = TypeVar("Item")
Result = TypeVar("Result")


class Blobs:
    """A store of blobs by name. `now` is compared with the times that the store gives."""

    def __init__(
        self,
        store: BlobStore,
        *,
        grace: timedelta = GRACE,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        call_timeout_s: float = CALL_TIMEOUT_S,
        retry_delay_s: float = RETRY_DELAY_S,
    ) -> None:
        self.grace = grace
        self.now = now
        self._store = store
        self._call_timeout_s = call_timeout_s
        self._retry_delay_s = retry_delay_s
        self._slots = asyncio.Semaphore(CALLS_MAX)

    @property
    def place(self) -> str:
        return self._store.place

    async def put(self, name: str, content: bytes) -> None:
        """When this returns, the blob is safe, and no sweep takes it within half a grace."""
        if name != name_of(content):
            raise ValueError(f"a blob's name is {name_of(content)} by its content, got {name}")
        key, since = _key(LIVE, name), self.now() - self.grace / 2
        await self._call(f"store {name}", lambda: self._store.put(key, content, unless_since=since))

    async def put_all(self, contents: Mapping[str, bytes]) -> None:
        await self.each(contents.items(), lambda item: self.put(*item))

    async def get(self, name: str) -> bytes:
        """Raises BlobMissingError, and PayloadDamagedError when it is not what was written."""
        # Once more at the first place: it may be on its way back from the bin.
        for area in (LIVE, BIN, LIVE):
            key = _key(area, name)
            content = await self._call(f"read {name}", partial(self._store.get, key))
            if content is None:
                continue
            found = name_of(content)
            if found != name:
                raise PayloadDamagedError(
                    f"blob {name}",
                    expected=name,
                    found=f"{found} ({len(content)} bytes)",
                    place=f"{self.place}/{key}",
                )
            return content
        raise BlobMissingError(name, self.place)

    async def exists(self, name: str) -> bool:
        return await self.stat(name) is not None or await self._stat(BIN, name) is not None

    async def stat(self, name: str) -> StoredBlob | None:
        """None also for a blob that is in the bin."""
        return await self._stat(LIVE, name)

    def listing(self) -> AsyncIterator[tuple[str, StoredBlob]]:
        return self._listing(LIVE)

    def bin_listing(self) -> AsyncIterator[tuple[str, StoredBlob]]:
        """`modified_at` is when the blob came there."""
        return self._listing(BIN)

    async def discard(self, name: str) -> None:
        """Into the bin."""
        await self._move(name, LIVE, BIN)

    async def restore(self, name: str) -> None:
        """Out of the bin."""
        await self._move(name, BIN, LIVE)

    async def delete(self, name: str) -> None:
        """From the bin, for good."""
        key = _key(BIN, name)
        await self._call(f"delete {name}", lambda: self._store.delete(key))

    async def each(
        self, items: Iterable[Item], call: Callable[[Item], Awaitable[Result]]
    ) -> list[Result]:
        """As many at a time as the store is asked to do."""
        return await for_each(items, call, at_once=CALLS_MAX)

    async def close(self) -> None:
        await self._store.close()

    async def _stat(self, area: str, name: str) -> StoredBlob | None:
        key = _key(area, name)
        return await self._call(f"look for {name}", lambda: self._store.stat(key))

    async def _move(self, name: str, area: str, to: str) -> None:
        source, target = _key(area, name), _key(to, name)
        await self._call(f"move {name} to {to}", lambda: self._store.move(source, target))

    async def _listing(self, area: str) -> AsyncIterator[tuple[str, StoredBlob]]:
        async for each in self._store.listing(area):
            name = each.key.rpartition("/")[2]
            if NAME.fullmatch(name):
                yield name, each

    async def _call(self, action: str, call: Callable[[], Awaitable[Result]]) -> Result:
        delay = self._retry_delay_s
        for tries_left in reversed(range(TRIES_MAX)):
            try:
                async with self._slots, asyncio.timeout(self._call_timeout_s):
                    return await call()
            except TimeoutError:
                if not tries_left:
                    reason = f"no answer within {self._call_timeout_s:g} s, {TRIES_MAX} times"
                    raise BlobUnavailableError(action, self.place, reason) from None
            except BlobUnavailableError:
                if not tries_left:
                    raise
            await asyncio.sleep(delay * random.uniform(0.5, 1.5))
            delay *= 4
        raise AssertionError("the last try returns or raises")


def _key(area: str, name: str) -> str:
    """In 256 folders, as Git does: a folder with a million files is slow to look at."""
    if not NAME.fullmatch(name):
        raise ValueError(f"not the name of a blob: {name!r}; it is {PREFIX} and 64 hex digits")
    first = name.removeprefix(PREFIX)[:2]
    return f"{area}{first}/{name}"
