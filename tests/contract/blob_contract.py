"""What every place for blobs promises; each implementation runs these tests on its own world."""

from __future__ import annotations

import asyncio
import functools
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any

from stepfold.payloads.errors import BlobUnavailableError
from stepfold.payloads.port import BlobStore, StoredBlob

TEST_TIMEOUT_S = 60.0
TRIES_MAX = 20
LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)
CLOCK_STEP = timedelta(seconds=2)
"""A bucket tells times in whole seconds, rounded in either way."""


class BlobWorld(ABC):
    """A place, and processes that see it."""

    resolution = timedelta(milliseconds=5)
    """How far apart two changes have to be so that their times differ."""

    @abstractmethod
    def store(self) -> BlobStore:
        """Call it on the loop; each call is another process."""


Claim = Callable[[Any, BlobWorld], Coroutine[Any, Any, None]]


def on_loop(claim: Claim) -> Callable[[Any, BlobWorld], None]:
    @functools.wraps(claim)
    def run(self: Any, world: BlobWorld) -> None:
        asyncio.run(asyncio.wait_for(claim(self, world), TEST_TIMEOUT_S))

    return run


class BlobStoreContract:
    """Subclasses live in a module with the fixture `world`."""

    @on_loop
    async def test_what_was_put_is_read_by_every_process(self, world: BlobWorld) -> None:
        one, other = world.store(), world.store()
        content = bytes(range(256)) * 300

        await put(one, "blobs/aa/x", content)

        assert await one.get("blobs/aa/x") == content
        assert await other.get("blobs/aa/x") == content
        await one.close()
        await other.close()

    @on_loop
    async def test_large_and_empty_contents_are_kept_as_they_are(self, world: BlobWorld) -> None:
        store = world.store()
        large = os.urandom(12 * 1_048_576)

        await put(store, "blobs/aa/large", large)
        await put(store, "blobs/aa/empty", b"")

        assert await store.get("blobs/aa/large") == large
        assert await store.get("blobs/aa/empty") == b""
        await store.close()

    @on_loop
    async def test_what_was_never_put_is_none(self, world: BlobWorld) -> None:
        store = world.store()

        assert await store.get("blobs/aa/x") is None
        assert await store.stat("blobs/aa/x") is None
        assert await keys(store, "blobs/") == []
        await store.close()

    @on_loop
    async def test_stat_tells_size_and_time(self, world: BlobWorld) -> None:
        store = world.store()
        before = datetime.now(UTC)

        await put(store, "blobs/aa/x", b"content")
        found = await store.stat("blobs/aa/x")

        assert found is not None
        assert (found.key, found.size_bytes) == ("blobs/aa/x", 7)
        assert before - CLOCK_STEP <= found.modified_at <= datetime.now(UTC) + CLOCK_STEP
        await store.close()

    @on_loop
    async def test_young_content_is_left_alone_and_old_content_made_young(
        self, world: BlobWorld
    ) -> None:
        store = world.store()
        await put(store, "blobs/aa/x", b"content")
        first = await stat(store, "blobs/aa/x")
        await until_later_than(first.modified_at, world)

        await store.put("blobs/aa/x", b"content", unless_since=first.modified_at)
        left_alone = await stat(store, "blobs/aa/x")
        await store.put("blobs/aa/x", b"content", unless_since=datetime.now(UTC) + CLOCK_STEP)
        made_young = await stat(store, "blobs/aa/x")

        assert left_alone == first
        assert made_young.modified_at > first.modified_at
        assert await store.get("blobs/aa/x") == b"content"
        await store.close()

    @on_loop
    async def test_content_of_another_size_is_replaced_however_young(
        self, world: BlobWorld
    ) -> None:
        store = world.store()
        await put(store, "blobs/aa/x", b"cont")

        await put(store, "blobs/aa/x", b"content")

        assert await store.get("blobs/aa/x") == b"content"
        await store.close()

    @on_loop
    async def test_many_put_the_same_at_once(self, world: BlobWorld) -> None:
        stores = [world.store() for _ in range(3)]
        content = os.urandom(100_000)

        await asyncio.gather(
            *[until_put(store, "blobs/aa/x", content) for store in stores for _ in range(10)]
        )

        assert await stores[0].get("blobs/aa/x") == content
        assert await keys(stores[0], "blobs/") == ["blobs/aa/x"]
        for store in stores:
            await store.close()

    @on_loop
    async def test_moved_blob_is_at_its_new_place_and_young(self, world: BlobWorld) -> None:
        store = world.store()
        await put(store, "blobs/aa/x", b"content")
        first = await stat(store, "blobs/aa/x")
        await until_later_than(first.modified_at, world)

        assert await store.move("blobs/aa/x", "bin/aa/x")

        assert await store.get("blobs/aa/x") is None
        assert await store.get("bin/aa/x") == b"content"
        assert (await stat(store, "bin/aa/x")).modified_at > first.modified_at
        await store.close()

    @on_loop
    async def test_blob_is_moved_over_another(self, world: BlobWorld) -> None:
        store = world.store()
        await put(store, "blobs/aa/x", b"one")
        await put(store, "bin/aa/x", b"other")

        assert await store.move("blobs/aa/x", "bin/aa/x")

        assert await store.get("bin/aa/x") == b"one"
        await store.close()

    @on_loop
    async def test_what_is_not_there_is_not_moved(self, world: BlobWorld) -> None:
        store = world.store()
        await put(store, "bin/aa/x", b"content")

        assert not await store.move("blobs/aa/x", "bin/aa/x")

        assert await store.get("bin/aa/x") == b"content"
        await store.close()

    @on_loop
    async def test_deleted_blob_is_gone_and_may_be_deleted_again(self, world: BlobWorld) -> None:
        store = world.store()
        await put(store, "blobs/aa/x", b"content")

        await store.delete("blobs/aa/x")
        await store.delete("blobs/aa/x")

        assert await store.get("blobs/aa/x") is None
        assert await keys(store, "blobs/") == []
        await store.close()

    @on_loop
    async def test_listing_has_all_below_the_prefix_and_nothing_else(
        self, world: BlobWorld
    ) -> None:
        store = world.store()
        live = [f"blobs/{n % 7:02x}/x{n}" for n in range(60)]
        for key in live:
            await put(store, key, key.encode())
        await put(store, "bin/aa/x", b"in the bin")

        assert await keys(store, "blobs/") == sorted(live)
        assert await keys(store, "bin/") == ["bin/aa/x"]
        found = [each async for each in store.listing("bin/")]
        assert found == [await stat(store, "bin/aa/x")]
        await store.close()


async def put(store: BlobStore, key: str, content: bytes) -> None:
    await store.put(key, content, unless_since=LONG_AGO)


async def until_put(store: BlobStore, key: str, content: bytes) -> None:
    """A store that is asked too much at once may say so; then it is asked again."""
    for _ in range(TRIES_MAX):
        try:
            return await put(store, key, content)
        except BlobUnavailableError:
            await asyncio.sleep(0)
    return await put(store, key, content)


async def stat(store: BlobStore, key: str) -> StoredBlob:
    found = await store.stat(key)
    assert found is not None
    return found


async def keys(store: BlobStore, prefix: str) -> list[str]:
    return sorted([each.key async for each in store.listing(prefix)])


async def until_later_than(moment: datetime, world: BlobWorld) -> None:
    """Until a change now is told from one at `moment`."""
    while datetime.now(UTC) <= moment + world.resolution:  # noqa: ASYNC110 - it is the clock
        await asyncio.sleep(0.002)
