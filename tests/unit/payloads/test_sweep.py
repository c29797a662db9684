"""What a sweep takes away, and that it never takes what an event refers to."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable

import pytest

from stepfold.payloads.blobs import GRACE, Blobs
from stepfold.payloads.document import name_of, reference
from stepfold.payloads.errors import BlobMissingError, PayloadDamagedError
from stepfold.payloads.store import PayloadStore
from stepfold.payloads.sweep import CLOCK_TOLERANCE, Swept, sweep
from tests.unit.payloads.blob_samples import HOUR, World, run
from tests.unit.payloads.samples import call_of, messages
from tests.unit.payloads.turns import Turns, every_order, some_orders

CONTENT = b'"some content"'
NAME = name_of(CONTENT)
DOCUMENT = reference(NAME, len(CONTENT), 0)
OLD = GRACE + CLOCK_TOLERANCE + HOUR


async def read(log: Iterable[bytes]) -> AsyncIterator[bytes]:
    for document in log:
        yield document


async def swept(blobs: Blobs, *log: bytes, dry_run: bool = False) -> Swept:
    return await sweep(blobs, read(log), dry_run=dry_run)


def test_blob_that_nothing_refers_to_goes_to_the_bin_and_then_for_good() -> None:
    async def claim() -> None:
        world = World()
        await world.put(CONTENT)
        world.clock.move(OLD)

        first = await swept(world.blobs)
        assert (first.discarded, first.discarded_bytes, first.deleted) == (1, len(CONTENT), 0)
        assert (await world.live(), await world.bin()) == (set(), {NAME})

        again = await swept(world.blobs)
        assert (again.in_bin, again.deleted) == (1, 0)

        world.clock.move(OLD)
        last = await swept(world.blobs)
        assert (last.deleted, last.deleted_bytes) == (1, len(CONTENT))
        assert not world.store.contents

    run(claim())


def test_dry_run_counts_and_moves_nothing() -> None:
    async def claim() -> None:
        world = World()
        await world.put(CONTENT)
        await world.put(b'"in the bin"')
        await world.blobs.discard(name_of(b'"in the bin"'))
        world.clock.move(OLD)
        before = dict(world.store.contents)

        found = await sweep(world.blobs, read([]))

        assert found == Swept(
            dry_run=True, discarded=1, discarded_bytes=len(CONTENT), deleted=1, deleted_bytes=12
        )
        assert world.store.contents == before

    run(claim())


def test_blob_that_is_young_stays() -> None:
    async def claim() -> None:
        world = World()
        await world.put(CONTENT)
        world.clock.move(GRACE + CLOCK_TOLERANCE)

        found = await swept(world.blobs)

        assert (found.young, found.discarded) == (1, 0)
        assert await world.live() == {NAME}

    run(claim())


def test_everything_below_a_document_stays() -> None:
    async def claim() -> None:
        world = World()
        payloads = PayloadStore(world.blobs)
        kept, encoding = await payloads.store(call_of(messages(300)))
        await payloads.store(call_of(messages(300, seed=2)))
        stored = await world.live()
        world.clock.move(OLD)

        found = await swept(world.blobs, kept)
        world.clock.move(OLD)
        await swept(world.blobs, kept)

        assert 0 < found.referenced < len(stored)
        assert len(world.store.contents) == found.referenced
        assert await payloads.load(kept, encoding) == call_of(messages(300))

    run(claim())


def test_blob_in_the_bin_that_is_referred_to_is_put_back() -> None:
    async def claim() -> None:
        world = World()
        await world.put(CONTENT)
        await world.blobs.discard(NAME)
        world.clock.move(OLD)

        found = await swept(world.blobs, DOCUMENT)

        assert (found.restored, found.deleted) == (1, 0)
        assert (await world.live(), await world.bin()) == ({NAME}, set())

    run(claim())


def test_document_that_cannot_be_followed_ends_the_sweep_before_anything_is_moved() -> None:
    async def claim(log: list[bytes], error: type[Exception]) -> None:
        world = World()
        await world.put(CONTENT)
        world.clock.move(OLD)

        with pytest.raises(error):
            await sweep(world.blobs, read(log), dry_run=False)

        assert await world.live() == {NAME}

    run(claim([b'{"$later":1}'], PayloadDamagedError))
    run(claim([reference(name_of(b"gone"), 9, 1)], BlobMissingError))


def test_log_that_cannot_be_read_ends_the_sweep_before_anything_is_moved() -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield DOCUMENT
        raise ConnectionError

    async def claim() -> None:
        world = World()
        await world.put(b'"other"')
        world.clock.move(OLD)

        with pytest.raises(ConnectionError):
            await sweep(world.blobs, broken(), dry_run=False)

        assert len(await world.live()) == 1

    run(claim())


class Race:
    """A writer who stores old content again and refers to it, while it is swept."""

    def __init__(self, turns: Turns) -> None:
        self.world = World()
        self.world.store.before = turns.wait
        self.log: list[bytes] = []
        self.was_in_bin = False

    async def write(self) -> None:
        blobs = self.world.process()
        await blobs.put(NAME, CONTENT)
        self.log.append(DOCUMENT)
        assert await blobs.get(NAME) == CONTENT

    async def sweep(self) -> None:
        # The list as it is now: a sweep reads up to the end that the log has when it begins.
        await sweep(self.world.process(), read(list(self.log)), dry_run=False)

    async def check(self) -> None:
        """The blob is there, and later sweeps put it back to its place and leave it there."""
        self.was_in_bin = NAME not in await self.world.live()
        assert await self.world.blobs.get(NAME) == CONTENT
        for _ in range(3):
            self.world.clock.move(OLD)
            await self.sweep()
            assert await self.world.live() == {NAME}
            assert await self.world.blobs.get(NAME) == CONTENT


def test_content_stored_again_while_it_is_swept_is_never_lost() -> None:
    found_in_bin = 0

    async def scene(turns: Turns) -> None:
        nonlocal found_in_bin
        race = Race(turns)
        await race.world.put(CONTENT)
        race.world.clock.move(OLD)
        await turns.together(writer=race.write(), sweeper=race.sweep())
        await race.check()
        found_in_bin += race.was_in_bin

    orders = every_order(scene)

    assert orders > 40
    # The moment that no look before the move can exclude does come up, and does no harm.
    assert 0 < found_in_bin < orders


def test_content_stored_again_while_the_bin_is_emptied_is_never_lost() -> None:
    async def scene(turns: Turns) -> None:
        race = Race(turns)
        await race.world.put(CONTENT)
        race.world.clock.move(OLD)
        await race.sweep()
        race.world.clock.move(OLD)
        await turns.together(writer=race.write(), sweeper=race.sweep())
        await race.check()

    assert every_order(scene) >= 20


def test_content_is_never_lost_by_a_sweep_that_puts_it_back_while_it_is_read() -> None:
    async def scene(turns: Turns) -> None:
        race = Race(turns)
        await race.world.put(CONTENT)
        await race.world.blobs.discard(NAME)
        race.log.append(DOCUMENT)
        race.world.clock.move(OLD)
        await turns.together(writer=race.write(), sweeper=race.sweep())
        await race.check()

    assert every_order(scene) >= 20


def test_two_sweeps_and_two_writers_at_once_lose_nothing() -> None:
    async def scene(turns: Turns) -> None:
        race = Race(turns)
        await race.world.put(CONTENT)
        race.world.clock.move(OLD)
        await turns.together(
            one=race.write(), other=race.write(), sweeper=race.sweep(), second=race.sweep()
        )
        await race.check()

    some_orders(scene, range(300))
