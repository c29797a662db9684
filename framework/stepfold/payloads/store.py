"""What the engine sees of all this: payloads in, documents out, and back.

A payload that fits is its own document, at no cost. A larger one is split, its blobs are
stored, and only then is there a document to write into an event.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Iterable
from contextlib import nullcontext
from datetime import datetime

from stepfold.core.errors import PayloadError, PayloadTooLargeError
from stepfold.payloads.blobs import Blobs
from stepfold.payloads.join import join
from stepfold.payloads.split import split

INLINE_BYTES_MAX = 32_768
"""A payload up to this is written into the event itself."""
PAYLOAD_BYTES_MAX = 67_108_864
"""64 MiB. Splitting takes four times as much memory, and a second or two."""
LARGE_BYTES = 1_048_576
LARGE_AT_ONCE_MAX = 2
"""How many payloads of more than `LARGE_BYTES` are stored at a time in one process."""
RECENT_MAX = 32_768
"""Blobs that are known to be stored, some 250 bytes each. The 600 of a transcript of half a MiB
need not be stored again at each turn."""

JSON = "json"
JSON_REFS = "json+refs"
NONE = "none"
"""The encoding of an event that has no payload."""


class PayloadStore:
    def __init__(
        self,
        blobs: Blobs,
        *,
        inline_max: int = INLINE_BYTES_MAX,
        payload_max: int = PAYLOAD_BYTES_MAX,
    ) -> None:
        self._blobs = blobs
        self._inline_max = inline_max
        self._payload_max = payload_max
        self._recent: OrderedDict[str, datetime] = OrderedDict()
        """When a blob was last put, the oldest first."""
        self._large = asyncio.Semaphore(LARGE_AT_ONCE_MAX)

    def inline(self, payload: bytes) -> tuple[bytes, str] | None:
        """The document and encoding of a payload that fits; None of one that `store` must take."""
        return (payload, JSON) if len(payload) <= self._inline_max else None

    async def store(self, payload: bytes, what: str = "a payload") -> tuple[bytes, str]:
        """The document and its encoding. When this returns, all it refers to is safe.

        Raises PayloadTooLargeError that names `what`, and BlobStoreError. The document must be
        in the log within a quarter of the grace period.
        """
        if (fits := self.inline(payload)) is not None:
            return fits
        if len(payload) > self._payload_max:
            raise PayloadTooLargeError(what, len(payload), self._payload_max)
        async with self._large if len(payload) > LARGE_BYTES else nullcontext():
            # Off the loop: a few milliseconds for 200 KiB, seconds for 64 MiB.
            result = await asyncio.to_thread(split, payload)
            now = self._blobs.now()
            new = {
                name: content
                for name, content in result.blobs.items()
                if not self._is_recent(name, now)
            }
            await self._blobs.put_all(new)
        self._remember(new, now)
        return result.document, JSON_REFS

    async def load(self, document: bytes, encoding: str) -> bytes:
        """The payload. Raises BlobMissingError, PayloadDamagedError and BlobStoreError."""
        if encoding in (JSON, NONE):
            return document
        if encoding != JSON_REFS:
            raise PayloadError(
                f"a payload is encoded as {encoding!r}, which this version cannot read "
                f"(it reads {JSON}, {JSON_REFS}); upgrade this process"
            )
        return await join(document, self._blobs.get, size_max=self._payload_max)

    def _is_recent(self, name: str, now: datetime) -> bool:
        put_at = self._recent.get(name)
        # A clock that was set back makes a blob look younger than new; then it is put again.
        return put_at is not None and put_at <= now < put_at + self._blobs.grace / 4

    def _remember(self, names: Iterable[str], now: datetime) -> None:
        for name in names:
            self._recent[name] = now
            self._recent.move_to_end(name)
        while len(self._recent) > RECENT_MAX:
            self._recent.popitem(last=False)
