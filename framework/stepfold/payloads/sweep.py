"""Takes away the blobs that no document refers to.

A sweep reads all documents first (the mark), then looks at what is stored. What is
referred to and in the bin goes back. What is not, and is older than the grace period, goes to
the bin; what has been in the bin for that long is deleted.

Why nothing is lost that is referred to. Let a sweep begin at time s with grace g, and take any
event with a document that needs blob b.

- The event was in the log at s: the mark reads it, so b is neither moved nor deleted.
- It came later, and its writer stored b before. `Blobs.put` left b modified at most g/2 ago, and
  the event follows within g/2 (`PayloadStore` counts on a put for g/4, and an append takes
  seconds). So at s the blob was younger than g, and is not moved; unless its writer stored it
  again in the moment between this sweep's last look at it and the move. Then it is in the
  bin, from where it is read as before. It is deleted at the earliest by a sweep that begins
  g after that; the mark of that sweep reads the event, which is older by then, and puts b back.
- Its writer stored b when b was in the bin, or gone: then it was written anew, beside the bin.

This needs three things of the caller. The documents are *all* that refer to this store, by
whichever app: a store belongs to whom its sweep reads. They are read up to the end that the log
has at s, or later. And clocks differ by less than the tolerance.

A document or blob that cannot be read ends the sweep before anything is moved: what it would
have referred to is not known.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypeVar

from stepfold.payloads.blobs import Blobs
from stepfold.payloads.join import references
from stepfold.payloads.port import StoredBlob

CLOCK_TOLERANCE = timedelta(minutes=5)
"""By how much the clocks of workers, of the store and of the sweep may differ."""
BATCH = 256
"""Documents that are followed, and blobs that are moved, side by side."""

Item = TypeVar("Item")


@dataclass(slots=True, kw_only=True)
class Swept:
    """What a sweep did, or in a dry run would have done."""

    dry_run: bool
    referenced: int = 0
    young: int = 0
    """Referred to by nothing yet, and not older than the grace period."""
    discarded: int = 0
    discarded_bytes: int = 0
    """Moved to the bin."""
    restored: int = 0
    in_bin: int = 0
    """That stay there for now, those that were just discarded not counted."""
    deleted: int = 0
    deleted_bytes: int = 0


async def sweep(
    blobs: Blobs,
    documents: AsyncIterable[bytes],
    *,
    clock_tolerance: timedelta = CLOCK_TOLERANCE,
    dry_run: bool = True,
) -> Swept:
    """`documents` are all of encoding `json+refs` that refer to these blobs."""
    old_before = blobs.now() - blobs.grace - clock_tolerance
    referenced = await _mark(blobs, documents)
    swept = Swept(dry_run=dry_run, referenced=len(referenced))
    sweeper = _Sweeper(blobs, referenced, old_before, swept)
    # The bin first: what is moved there below must not be met again.
    async for batch in _batches(blobs.bin_listing()):
        await blobs.each(batch, sweeper.in_bin)
    async for batch in _batches(blobs.listing()):
        await blobs.each(batch, sweeper.in_place)
    return swept


async def _mark(blobs: Blobs, documents: AsyncIterable[bytes]) -> set[str]:
    known: set[str] = set()
    async for batch in _batches(documents):
        await blobs.each(batch, lambda document: references(document, blobs.get, known))
    return known


class _Sweeper:
    def __init__(
        self, blobs: Blobs, referenced: set[str], old_before: datetime, swept: Swept
    ) -> None:
        self._blobs = blobs
        self._referenced = referenced
        self._old_before = old_before
        self._swept = swept

    async def in_bin(self, item: tuple[str, StoredBlob]) -> None:
        name, stored = item
        if name in self._referenced:
            self._swept.restored += 1
            if not self._swept.dry_run:
                await self._blobs.restore(name)
        elif stored.modified_at >= self._old_before:
            self._swept.in_bin += 1
        else:
            self._swept.deleted += 1
            self._swept.deleted_bytes += stored.size_bytes
            if not self._swept.dry_run:
                await self._blobs.delete(name)

    async def in_place(self, item: tuple[str, StoredBlob]) -> None:
        name, stored = item
        if name in self._referenced:
            return
        if stored.modified_at >= self._old_before or not await self._is_still_old(name):
            self._swept.young += 1
            return
        self._swept.discarded += 1
        self._swept.discarded_bytes += stored.size_bytes
        if not self._swept.dry_run:
            await self._blobs.discard(name)

    async def _is_still_old(self, name: str) -> bool:
        """The list may be minutes old."""
        now = await self._blobs.stat(name)
        return now is not None and now.modified_at < self._old_before


async def _batches(items: AsyncIterable[Item]) -> AsyncIterator[list[Item]]:
    batch: list[Item] = []
    async for item in items:
        batch.append(item)
        if len(batch) == BATCH:
            yield batch
            batch = []
    yield batch
