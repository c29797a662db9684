"""Payloads in, documents out, and back."""

from __future__ import annotations

import sys

import pytest
from pydantic_core import to_json

from stepfold.core.errors import PayloadError, PayloadTooLargeError
from stepfold.payloads.blobs import GRACE
from stepfold.payloads.errors import BlobMissingError, BlobRefusedError
from stepfold.payloads.store import INLINE_BYTES_MAX, JSON, JSON_REFS, NONE, PayloadStore
from tests.unit.payloads.blob_samples import World, run
from tests.unit.payloads.samples import call_of, messages, prose

KIB = 1_024


def test_payload_that_fits_is_its_own_document_and_needs_no_store() -> None:
    world = World()
    payloads = PayloadStore(world.blobs)
    payload = b'"' + b"a" * (INLINE_BYTES_MAX - 2) + b'"'

    assert payloads.inline(payload) == (payload, JSON)
    assert payloads.inline(payload + b" ") is None
    assert run(payloads.store(payload)) == (payload, JSON)
    assert run(payloads.load(payload, JSON)) == payload
    assert run(payloads.load(b"", NONE)) == b""
    assert world.steps == []


def test_larger_payload_is_stored_and_loaded() -> None:
    async def claim() -> None:
        world = World()
        payloads = PayloadStore(world.blobs)
        payload = call_of(messages(100))

        document, encoding = await payloads.store(payload)

        assert encoding == JSON_REFS
        assert len(document) < 500
        assert await payloads.load(document, encoding) == payload
        assert await PayloadStore(world.process()).load(document, encoding) == payload

    run(claim())


def test_payload_over_the_limit_is_refused_by_its_name() -> None:
    async def claim() -> None:
        world = World()
        payloads = PayloadStore(world.blobs, payload_max=50_000)

        with pytest.raises(PayloadTooLargeError, match="the result of 'search' has 50002 bytes"):
            await payloads.store(to_json(prose(50_000)), "the result of 'search'")

        assert world.steps == []

    run(claim())


def test_encoding_of_a_later_version_is_refused_with_the_way_out() -> None:
    async def claim() -> None:
        with pytest.raises(PayloadError, match=r"'sealed\+json'.*upgrade"):
            await PayloadStore(World().blobs).load(b"", "sealed+json")

    run(claim())


def test_no_document_is_given_out_unless_all_its_blobs_are_stored() -> None:
    async def claim() -> None:
        world = World()
        payloads = PayloadStore(world.blobs)
        payload = call_of(messages(100))
        world.failures.append(BlobRefusedError("store it", "memory", "403 Forbidden"))

        with pytest.raises(BlobRefusedError):
            await payloads.store(payload)

        # What was stored before the failure is not taken to be all.
        document, encoding = await payloads.store(payload)
        assert await PayloadStore(world.process()).load(document, encoding) == payload

    run(claim())


def test_blobs_stored_lately_are_not_stored_again() -> None:
    async def claim() -> None:
        world = World()
        payloads = PayloadStore(world.blobs)
        await payloads.store(call_of(messages(100)))
        world.steps.clear()

        await payloads.store(call_of(messages(101)))
        assert len(world.steps) < 12

        world.steps.clear()
        world.clock.move(GRACE / 4)
        await payloads.store(call_of(messages(101)))
        assert len(world.steps) > 100

    run(claim())


def test_clock_that_was_set_back_makes_blobs_be_stored_again() -> None:
    async def claim() -> None:
        world = World()
        payloads = PayloadStore(world.blobs)
        await payloads.store(call_of(messages(100)))
        world.steps.clear()

        world.clock.move(-GRACE)
        await payloads.store(call_of(messages(100)))

        assert len(world.steps) > 100

    run(claim())


def test_missing_blob_is_named_when_a_payload_is_loaded() -> None:
    async def claim() -> None:
        world = World()
        payloads = PayloadStore(world.blobs)
        document, encoding = await payloads.store(call_of(messages(100)))
        name = sorted(await world.live())[7]
        await world.blobs.discard(name)
        await world.blobs.delete(name)

        with pytest.raises(BlobMissingError, match=name):
            await payloads.load(document, encoding)

    run(claim())


@pytest.mark.parametrize(
    ("inline_max", "times_max"), [(4 * KIB, 3), (8 * KIB, 3), (INLINE_BYTES_MAX, 4.8)]
)
def test_agent_that_hands_on_its_transcript_stores_a_small_multiple_of_it(
    inline_max: int, times_max: float
) -> None:
    said = messages(200)

    async def claim() -> tuple[int, int]:
        world = World()
        payloads = PayloadStore(world.blobs, inline_max=inline_max)
        documents = 0
        payload = b""
        for turn in range(1, 201):
            payload = call_of({"messages": said[:turn], "model": "m"})
            document, _ = await payloads.store(payload)
            documents += len(document)
        blobs = sum(len(content) for content, _ in world.store.contents.values())
        return blobs + documents, len(payload)

    total, last = run(claim())

    sys.stdout.write(
        f"inline up to {inline_max // KIB} KiB: 200 turns to {last // KIB} KiB take "
        f"{total // KIB} KiB, {total / last:.2f} times as much\n"
    )
    # With 32 KiB, the first 31 turns alone are inline and take 1 + 2 + … + 31 = 496 KiB.
    assert total < times_max * last
