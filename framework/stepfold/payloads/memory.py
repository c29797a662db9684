"""Blobs in memory, for tests and for `stepfold.testing`: the port's promises and no more.

What takes a bucket two requests takes two steps here, and others may act in between: a look
and a write in `put`, a copy and a deletion in `move`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime

from stepfold.payloads.port import StoredBlob


async def _go_on(step: str) -> None:
    """Nothing happens in between."""


class MemoryStore:
    """A BlobStore. `now` is its clock.

    `before` is awaited before each step. A test lets others act there, raises what a store
    raises when it breaks, or never comes back. `contents` may be damaged by hand.
    """

    def __init__(
        self,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        before: Callable[[str], Awaitable[None]] = _go_on,
    ) -> None:
        self.before = before
        self.contents: dict[str, tuple[bytes, datetime]] = {}
        self._now = now

    @property
    def place(self) -> str:
        return "memory"

    async def put(self, key: str, content: bytes, *, unless_since: datetime) -> None:
        present = await self.stat(key)
        if present and present.size_bytes == len(content) and present.modified_at >= unless_since:
            return
        await self.before("write")
        self.contents[key] = (content, self._now())

    async def get(self, key: str) -> bytes | None:
        await self.before("read")
        found = self.contents.get(key)
        return found[0] if found else None

    async def stat(self, key: str) -> StoredBlob | None:
        await self.before("look")
        return self._stored(key)

    async def move(self, key: str, to: str) -> bool:
        await self.before("copy")
        found = self.contents.get(key)
        if found is None:
            return False
        self.contents[to] = (found[0], self._now())
        await self.delete(key)
        return True

    async def delete(self, key: str) -> None:
        await self.before("delete")
        self.contents.pop(key, None)

    async def listing(self, prefix: str) -> AsyncIterator[StoredBlob]:
        await self.before("list")
        for key in [each for each in self.contents if each.startswith(prefix)]:
            present = self._stored(key)
            if present is not None:
                yield present

    async def close(self) -> None:
        """Nothing to let go."""

    def _stored(self, key: str) -> StoredBlob | None:
        found = self.contents.get(key)
        if found is None:
            return None
        return StoredBlob(key=key, size_bytes=len(found[0]), modified_at=found[1])
