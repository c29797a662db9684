"""The real writer's proof as a table: which reports, in order, prove which events.

The writer is driven through its port only: so many events appended, these reports given.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial
from typing import NamedTuple

from stepfold.core import events as e
from stepfold.core.ids import Epoch
from stepfold.journal.port import Report
from stepfold.journal.writer import HistoryWriter
from tests.model.pen import Client

EXACT = 0
"""Delivered, at the offset that the writer expects."""
ELSEWHERE = 1
"""Delivered, at another offset."""
NO_OFFSET = 2
"""Delivered, it is said, but nobody knows where: an acknowledgement was lost on the way."""
FAILED = 3
"""An error. The offset beside it means nothing, and is the expected one, to tempt."""

CLAIM_AT = 7
EVENT = e.Drained(reason="", open_attempts=0)


class Judged(NamedTuple):
    """fired: the events whose effects the last report set free."""

    is_certain: bool
    fired: tuple[int, ...]


def judgements(writer: type[HistoryWriter]) -> Callable[[tuple[int, ...]], Judged]:
    """What such a writer makes of the last of these reports, after the others."""
    return lru_cache(None)(partial(_judged, writer))


def _judged(writer: type[HistoryWriter], reports: tuple[int, ...]) -> Judged:
    client = Client()
    uncertain: list[str] = []
    errors: list[Exception] = []
    fired: list[int] = []
    subject = writer(
        appender=client,
        topic="history",
        partition=0,
        epoch=Epoch(CLAIM_AT, 1),
        on_uncertain=uncertain.append,
        on_proof=lambda at: None,
        on_error=errors.append,
    )
    for seq in range(len(reports)):
        subject.append(EVENT, at=0, tenant="", when_proven=partial(fired.append, seq))
    for seq, report in enumerate(reports):
        fired.clear()
        client.handed[seq].on_report(_report(seq, report))
    assert not errors
    return Judged(not uncertain, tuple(fired))


def _report(seq: int, report: int) -> Report:
    expected = CLAIM_AT + 1 + seq
    if report == EXACT:
        return Report(expected, 0, None)
    if report == ELSEWHERE:
        return Report(expected + 1, 0, None)
    if report == NO_OFFSET:
        return Report(None, 0, "acknowledged without an offset")
    return Report(expected, 0, "timed out")
