"""What the engine's code needs around it: a client that only keeps, a clock that stands.

Nothing of these outlives a move: the engine's objects are made anew from a folded shard, do one
thing, and what they appended and sent is read from the client, as the log would hold it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from stepfold.core import events as e
from stepfold.core.ids import Epoch
from stepfold.core.shard import Shard
from stepfold.engine.clock import Handle
from stepfold.engine.guard import Guard
from stepfold.engine.history import ShardHistory
from stepfold.journal.codec import decode_event
from stepfold.journal.port import Headers, ReportSink
from stepfold.journal.writer import HistoryWriter

HISTORY = "a.history"
NOW_MS = 1_000_000
LATER_MS = 10**12
"""After every back-off: that time passes is a move of its own."""


class Handed(NamedTuple):
    """A record that was handed to Kafka's client."""

    topic: str
    value: bytes
    on_report: ReportSink


class Client:
    """Keeps what it is given, and whom to report to. An Appender."""

    def __init__(self) -> None:
        self.handed: list[Handed] = []

    def append(
        self,
        topic: str,
        partition: int,
        key: bytes,
        value: bytes,
        headers: Headers,
        on_report: ReportSink,
    ) -> None:
        self.handed.append(Handed(topic, value, on_report))

    def renew(self, reason: str) -> None:
        """That a client gets nowhere is a failed report, and so a move of its own."""

    def events(self) -> list[e.Recorded]:
        """What was appended to the history, as any reader would decode it."""
        return [decode_event(each.value, -1) for each in self.handed if each.topic == HISTORY]


class _Never:
    def cancel(self) -> None:
        """There is nothing that would come."""


class StandingClock:
    """Nothing is ever called back: what would be done later is a move of its own. A Clock."""

    def __init__(self, now_ms: int = NOW_MS) -> None:
        self._now_ms = now_ms

    def now_ms(self) -> int:
        return self._now_ms

    def observe(self, broker_ms: int) -> None:
        """All that lands meanwhile lands now."""

    def call_at(self, due_ms: int, callback: Callable[[], None]) -> Handle:
        return _Never()


def writer_on(shard: Shard, epoch: Epoch, client: Client) -> HistoryWriter:
    """The writer of this epoch, after the events that the shard has seen of it."""
    writer = HistoryWriter(
        appender=client,
        topic=HISTORY,
        partition=0,
        epoch=epoch,
        on_uncertain=_fail,
        on_proof=lambda at: None,
        on_error=_raise,
    )
    writer.next_seq = shard.chain.next_seq
    return writer


def history_on(shard: Shard, epoch: Epoch, client: Client) -> ShardHistory:
    """The shard is changed by what is appended: hand over a copy."""
    return ShardHistory(
        shard=shard,
        writer=writer_on(shard, epoch, client),
        clock=StandingClock(),
        deliver=_released_later,
    )


def _released_later(outs: Iterable[e.Out]) -> None:
    """What is sent when an event is proven is a move of its own."""


def _fail(reason: str) -> None:
    raise AssertionError(reason)


def _raise(error: Exception) -> None:
    raise error


GUARD = Guard(_raise)
"""What breaks in the engine's code ends the search with its traceback."""
