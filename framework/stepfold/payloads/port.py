"""The port to the place where blobs are kept: a folder, a bucket, or memory.

A store knows keys and bytes. What a key means, whether content is what it should be, how
often to try again and what may be deleted is decided above it, in `blobs` and `sweep`, once
for all places. Every store passes the suite in `tests/contract/blob_contract.py`.

A store raises BlobUnavailableError when the same call may succeed later, and
BlobRefusedError when it will not. Calls may be cancelled at any time; whatever has been
written by then is whole.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredBlob:
    key: str
    size_bytes: int
    modified_at: datetime
    """By the store's clock, aware of its zone. Written, moved here or written again."""


class BlobStore(Protocol):
    @property
    def place(self) -> str:
        """Where it is, for messages; without credentials."""
        ...

    async def put(self, key: str, content: bytes, *, unless_since: datetime) -> None:
        """When this returns, the content outlives a power failure and is not older than that.

        Nothing is written if content of the same size is there, modified at `unless_since` or
        later. Else it is written as a whole, in place of what is there, and is modified now.
        """
        ...

    async def get(self, key: str) -> bytes | None: ...

    async def stat(self, key: str) -> StoredBlob | None: ...

    async def move(self, key: str, to: str) -> bool:
        """False if there is nothing at `key`. What is at `to` is replaced, modified now.

        Whoever looks meanwhile finds it at one of the two, or at both.
        """
        ...

    async def delete(self, key: str) -> None:
        """Also succeeds when there is nothing."""
        ...

    def listing(self, prefix: str) -> AsyncIterator[StoredBlob]:
        """All whose key begins with the prefix, which ends with a slash; in no order."""
        ...

    async def close(self) -> None: ...
