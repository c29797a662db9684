"""A claim: the record by which a candidate becomes the owner of a shard (rule R4)."""

from __future__ import annotations

import asyncio
import os
import socket

from stepfold.core import events as e
from stepfold.core.ids import NO_EPOCH
from stepfold.core.shard import Chain
from stepfold.engine.surroundings import Surroundings
from stepfold.journal.codec import encode_event, event_headers
from stepfold.journal.port import Appender, Report

REPORT_TIMEOUT_S = 30.0


def new_claim(chain: Chain, around: Surroundings, *, build: str, unsafe: bool) -> e.Claimed:
    """Counts only where the epoch that the chain shows is still in force when it lands."""
    return e.Claimed(
        prev_epoch_offset=chain.epoch.offset,
        prev_epoch_nonce=chain.epoch.nonce,
        nonce=around.dice.getrandbits(63),
        worker_id=around.worker_id,
        host=socket.gethostname(),
        pid=os.getpid(),
        build=build,
        fold_version=e.FOLD_VERSION,
        closes_last_seq=chain.next_seq - 1,
        closes_last_offset=chain.last_offset,
        unsafe=unsafe,
    )


async def append_claim(
    appender: Appender, topic: str, partition: int, claim: e.Claimed, around: Surroundings
) -> Report:
    """What Kafka says of it; an error when it says nothing in time."""
    reported: asyncio.Future[Report] = asyncio.get_running_loop().create_future()

    def report(answer: Report) -> None:
        if not reported.done():
            reported.set_result(answer)

    value = encode_event(claim, epoch=NO_EPOCH, seq=-1, at=around.clock.now_ms())
    appender.append(topic, partition, b"", value, event_headers(claim, NO_EPOCH, -1), report)
    try:
        # Not wait_for: before Python 3.12 it loses a cancellation that meets the answer, and
        # the shard would be kept by a process that was told to give it up.
        async with asyncio.timeout(REPORT_TIMEOUT_S):
            return await reported
    except TimeoutError:
        return Report(None, 0, "no report in time")
