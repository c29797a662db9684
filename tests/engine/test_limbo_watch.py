"""Whose claim ends the limbo of a shard."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from stepfold.core import events as e
from stepfold.core.ids import NO_EPOCH, Epoch
from stepfold.core.shard import Chain
from stepfold.engine.limbo import LimboWatch
from stepfold.journal.codec import encode_event
from stepfold.journal.memory import MemoryCluster, MemoryJournal
from tests.unit.core_samples import started

OURS = Epoch(0, 77)
HISTORY = "research.history"


def claim(prev: Epoch, nonce: int, worker_id: str) -> bytes:
    event = e.Claimed(
        prev_epoch_offset=prev.offset,
        prev_epoch_nonce=prev.nonce,
        nonce=nonce,
        worker_id=worker_id,
        host="",
        pid=1,
        build="",
        fold_version=1,
        closes_last_seq=0,
        closes_last_offset=0,
        unsafe=False,
    )
    return encode_event(event, epoch=NO_EPOCH, seq=-1, at=1)


def event(seq: int) -> bytes:
    return encode_event(started(), epoch=OURS, seq=seq, at=1)


def taken_after(records: Sequence[bytes]) -> bool:
    """Whether the watch says so; it begins behind our claim at 0 and our first event at 1."""

    async def main() -> bool:
        cluster = MemoryCluster()
        cluster.create_app("research", 1)
        for value in (claim(NO_EPOCH, OURS.nonce, "us"), event(0), *records):
            cluster.append(HISTORY, 0, b"", value, [])
        taken: list[bool] = []
        watch = LimboWatch(
            reader=MemoryJournal(cluster, "us").reader,
            history=HISTORY,
            partition=0,
            led_until=Chain(OURS, 1, 1),
            worker_id="us",
            on_taken=lambda: taken.append(True),
        )
        watch.open()
        for _ in range(10):
            await asyncio.sleep(0)
        watch.close()
        assert len(taken) <= 1
        return bool(taken)

    return asyncio.run(main())


def test_claim_of_another_process_takes_the_shard() -> None:
    assert taken_after([claim(OURS, 5, "them")])


def test_events_of_ours_that_land_late_take_nothing() -> None:
    assert not taken_after([event(1), event(2)])


def test_claim_that_is_void_takes_nothing() -> None:
    assert not taken_after([claim(Epoch(7, 7), 5, "them")])


def test_late_claim_of_ours_takes_nothing_and_one_on_top_of_it_does() -> None:
    ours = claim(OURS, 5, "us")

    assert not taken_after([ours])
    assert taken_after([ours, claim(Epoch(2, 5), 6, "them")])


def test_record_of_a_later_version_means_that_another_leads() -> None:
    assert taken_after([b"\xc3\x01 an event that is not known here"])
