"""Compares what shards say they delivered with what others say they took (I6).

Both sides keep a few numbers for each delivery: not what was delivered, but check sums
of it, from which a mistake shows just as well. One side cannot be looked at after the
other without some being under way; so what was taken is only compared up to where its
history ended before any was read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple
from zlib import crc32

from stepfold.core import events as e
from stepfold.core.commands import Cancel, ResolveChild, StartChild
from stepfold.verify.report import Report, Violation
from stepfold.verify.story import Deliveries

ANY_BODY = -1
"""What a rejection says of the body: nothing."""


def check_sums(what: Any) -> tuple[int, int]:
    """Of the run, and of what is delivered to it; alike for a command and for its event."""
    match what:
        case StartChild():
            body = crc32(f"start {what.workflow}".encode())
        case ResolveChild():
            body = crc32(f"resolve {what.step} {what.outcome}".encode())
        case Cancel() | e.CancelRequested():
            body = crc32(b"cancel")
        case e.RunAccepted():
            body = crc32(f"start {what.event_name}".encode())
        case e.ChildResolved():
            body = crc32(f"resolve {what.step} {what.outcome}".encode())
        case _:
            body = ANY_BODY
    return crc32(getattr(what, "run_id", "").encode()), body


class Settled(NamedTuple):
    """A shard's report, and the offset before which its deliveries are to be compared."""

    report: Report
    before: int


def check_deliveries(app: str, shards: Mapping[int, Settled]) -> Iterator[tuple[int, Violation]]:
    """By the partition of the shard that took what was not delivered."""
    for partition, settled in shards.items():
        for source, taken in settled.report.taken.items():
            sender = _sender(app, source, shards)
            if sender is None or not sender.is_whole or not settled.report.is_whole:
                continue
            sent = sender.sent.get(f"{app}.control/{partition}", Deliveries())
            for n, offset, sentence in _differences(source, sent, taken):
                if offset < settled.before:
                    yield partition, _violation(app, partition, offset, n, sentence)


def _sender(app: str, source: str, shards: Mapping[int, Settled]) -> Report | None:
    """None: a shard of another app, or one that is not looked at."""
    name, _, partition = source.rpartition("/")
    if name != app or not partition.isdecimal():
        return None
    settled = shards.get(int(partition))
    return None if settled is None else settled.report


def _differences(
    source: str, sent: Deliveries, taken: Deliveries
) -> Iterator[tuple[int, int, str]]:
    for n in range(1, len(taken) + 1):
        run, body, offset = taken.row(n)
        if n > len(sent):
            yield n, offset, f"delivery {n} of shard {source} is taken, which decided no such one"
            continue
        sent_run, sent_body, sent_offset = sent.row(n)
        if run != sent_run or body not in (ANY_BODY, sent_body):
            where = f"offset {sent_offset} of the history of {source}"
            yield n, offset, f"delivery {n} is taken as something else than {where} decided"


def _violation(app: str, partition: int, offset: int, n: int, sentence: str) -> Violation:
    return Violation(
        invariant="I6",
        rule="what-is-taken-was-delivered",
        topic=f"{app}.history",
        partition=partition,
        offset=offset,
        run_id="",
        step="",
        sentence=sentence,
    )
