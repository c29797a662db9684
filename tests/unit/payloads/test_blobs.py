"""Blobs by name: what is checked, what is tried again, and what the bin is good for."""

from __future__ import annotations

import asyncio

import pytest

from stepfold.payloads.blobs import CALLS_MAX, GRACE, TRIES_MAX
from stepfold.payloads.document import name_of
from stepfold.payloads.errors import (
    BlobMissingError,
    BlobRefusedError,
    BlobUnavailableError,
    PayloadDamagedError,
)
from tests.unit.payloads.blob_samples import HOUR, World, run

CONTENT = b'"some content"'
NAME = name_of(CONTENT)


def unavailable() -> BlobUnavailableError:
    return BlobUnavailableError("do it", "memory", "503 Slow Down")


def test_blob_is_put_and_got_by_its_name() -> None:
    async def claim() -> None:
        world = World()

        await world.blobs.put(NAME, CONTENT)

        assert await world.blobs.get(NAME) == CONTENT
        assert await world.blobs.exists(NAME)

    run(claim())


def test_content_that_is_not_its_names_is_not_put() -> None:
    async def claim() -> None:
        world = World()

        with pytest.raises(ValueError, match=f"name is {NAME} by its content"):
            await world.blobs.put(name_of(b"other"), CONTENT)

        assert not world.store.contents

    run(claim())


@pytest.mark.parametrize("name", ["", "../../etc/passwd", "sha256-", NAME.upper(), f"{NAME}\n"])
def test_what_is_no_name_reaches_no_store(name: str) -> None:
    async def claim() -> None:
        world = World()

        with pytest.raises(ValueError, match="not the name of a blob"):
            await world.blobs.get(name)

        assert world.steps == []

    run(claim())


def test_missing_blob_is_named_with_its_place() -> None:
    async def claim() -> None:
        world = World()

        with pytest.raises(BlobMissingError, match=f"{NAME} is not in memory") as caught:
            await world.blobs.get(NAME)

        assert (caught.value.name, caught.value.place) == (NAME, "memory")
        assert not await world.blobs.exists(NAME)

    run(claim())


@pytest.mark.parametrize("damage", [b"", b'"some c0ntent"', CONTENT + b" "])
def test_damaged_blob_is_named_with_what_was_expected_and_found(damage: bytes) -> None:
    async def claim() -> None:
        world = World()
        await world.put(CONTENT)
        (key,) = world.store.contents
        world.store.contents[key] = (damage, world.clock.now)

        with pytest.raises(PayloadDamagedError) as caught:
            await world.blobs.get(NAME)

        assert caught.value.name == f"blob {NAME}"
        assert caught.value.expected == NAME
        assert caught.value.found == f"{name_of(damage)} ({len(damage)} bytes)"
        assert caught.value.place == f"memory/{key}"

    run(claim())


def test_blob_of_another_size_is_mended_by_the_next_put() -> None:
    async def claim() -> None:
        world = World()
        await world.put(CONTENT)
        (key,) = world.store.contents
        world.store.contents[key] = (CONTENT[:5], world.clock.now)

        await world.put(CONTENT)

        assert await world.blobs.get(NAME) == CONTENT

    run(claim())


def test_put_leaves_a_blob_younger_than_half_the_grace() -> None:
    async def claim() -> None:
        world = World()
        await world.put(CONTENT)
        put_at = world.clock.now

        world.clock.move(GRACE / 2)
        await world.put(CONTENT)
        left_alone = await world.blobs.stat(NAME)
        world.clock.move(HOUR)
        await world.put(CONTENT)
        made_young = await world.blobs.stat(NAME)

        assert left_alone is not None
        assert left_alone.modified_at == put_at
        assert made_young is not None
        assert made_young.modified_at == world.clock.now

    run(claim())


def test_call_that_fails_is_tried_again() -> None:
    async def claim() -> None:
        world = World()
        world.failures.extend([unavailable() for _ in range(TRIES_MAX - 1)])

        await world.put(CONTENT)

        assert await world.blobs.get(NAME) == CONTENT

    run(claim())


def test_call_that_keeps_failing_is_given_up() -> None:
    async def claim() -> None:
        world = World()
        world.failures.extend([unavailable() for _ in range(TRIES_MAX)])

        with pytest.raises(BlobUnavailableError, match="503 Slow Down"):
            await world.put(CONTENT)

        assert len(world.steps) == TRIES_MAX

    run(claim())


def test_call_that_is_refused_is_not_tried_again() -> None:
    async def claim() -> None:
        world = World()
        world.failures.append(BlobRefusedError("do it", "memory", "403 Forbidden"))

        with pytest.raises(BlobRefusedError, match=r"403 Forbidden.*credentials"):
            await world.put(CONTENT)

        assert len(world.steps) == 1

    run(claim())


def test_call_that_hangs_is_tried_again_and_then_given_up() -> None:
    async def claim() -> None:
        world = World(call_timeout_s=0.01)
        world.hangs = 1
        await world.put(CONTENT)
        world.hangs = TRIES_MAX

        with pytest.raises(BlobUnavailableError, match=r"no answer within 0.01 s, 4 times"):
            await world.put(b'"other"')

    run(claim())


def test_many_blobs_are_put_a_bounded_number_at_a_time() -> None:
    async def claim() -> None:
        world = World()
        contents = [b"%d" % n for n in range(200)]
        most = now = 0

        async def before(step: str) -> None:
            nonlocal most, now
            now += 1
            most = max(most, now)
            await asyncio.sleep(0)
            now -= 1

        world.store.before = before
        await world.blobs.put_all({name_of(each): each for each in contents})

        assert len(world.store.contents) == len(contents)
        assert most == CALLS_MAX

    run(claim())


def test_blob_in_the_bin_is_read_as_before() -> None:
    async def claim() -> None:
        world = World()
        await world.put(CONTENT)

        await world.blobs.discard(NAME)

        assert await world.bin() == {NAME}
        assert await world.live() == set()
        assert await world.blobs.get(NAME) == CONTENT
        assert await world.blobs.exists(NAME)

    run(claim())


def test_blob_on_its_way_back_from_the_bin_is_read_as_well() -> None:
    async def claim() -> None:
        world = World()
        await world.put(CONTENT)
        await world.blobs.discard(NAME)
        reads = 0

        async def before(step: str) -> None:
            nonlocal reads
            if step == "read":
                reads += 1
                if reads == 2:
                    world.store.before = world.go_on
                    await world.blobs.restore(NAME)

        world.store.before = before

        assert await world.blobs.get(NAME) == CONTENT

    run(claim())


def test_blob_that_was_discarded_is_put_anew() -> None:
    async def claim() -> None:
        world = World()
        await world.put(CONTENT)
        await world.blobs.discard(NAME)

        await world.put(CONTENT)

        assert await world.live() == {NAME}
        await world.blobs.delete(NAME)
        assert await world.blobs.get(NAME) == CONTENT

    run(claim())


def test_files_of_others_in_the_store_are_passed_over() -> None:
    async def claim() -> None:
        world = World()
        await world.put(CONTENT)
        world.store.contents["blobs/README"] = (b"hello", world.clock.now)

        assert await world.live() == {NAME}

    run(claim())
