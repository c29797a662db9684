"""What the engine needs of a log, and no more; `memory` and `kafka` both provide it.

Everything is called on the event loop and nothing here blocks: answers come back
as callbacks on the loop, in the order of the log. A report that is missing an offset
or carries an error proves nothing; only the log does.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from enum import Enum
from typing import NamedTuple, Protocol, TypeAlias

Headers: TypeAlias = list[tuple[str, bytes]]


UNREADABLE_HEADERS: Headers = [("headers-unreadable", b"a name is not UTF-8")]
"""Stands for the headers of a record that this client cannot decode."""


class ShardId(NamedTuple):
    app: str
    partition: int


class LogRecord(NamedTuple):
    """A record as the log delivers it; timestamp in milliseconds."""

    topic: str
    partition: int
    offset: int
    leader_epoch: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]


class Report(NamedTuple):
    """The answer to one append: offset and broker time, or an error (then offset is None)."""

    offset: int | None
    timestamp: int
    error: str | None


ReportSink: TypeAlias = Callable[[Report], None]


class Batch(NamedTuple):
    """Records in offset order, and whether the end of the partition was reached after them.

    `position` is the offset that a further record would have to reach. `error` tells
    why the partition cannot be read on (its start was deleted, the topic is gone).
    """

    records: Sequence[LogRecord]
    at_end: bool
    position: int
    error: str | None = None


BatchSink: TypeAlias = Callable[[Batch], None]


class Appender(Protocol):
    """The process's one producer."""

    def append(
        self,
        topic: str,
        partition: int,
        key: bytes,
        value: bytes,
        headers: Headers,
        on_report: ReportSink,
    ) -> None:
        """Hand one record over; per partition, records land in the order of the calls.

        on_report is called once, on the loop, never from inside this call. After a
        fatal client error every outstanding append is reported with an error, and the
        client is replaced before the next append.
        """
        ...


class Reader(Protocol):
    """Manually assigned reading; each open partition has one sink."""

    def open(self, topic: str, partition: int, offset: int, sink: BatchSink) -> None:
        """Deliver from this offset on. Opening an open partition moves it there."""
        ...

    def close(self, topic: str, partition: int) -> None:
        """Deliver nothing more to its sink, from this call on."""
        ...

    def pause(self, topic: str, partition: int) -> None: ...

    def resume(self, topic: str, partition: int) -> None: ...


class Lease(Enum):
    HELD = "held"
    LOST = "lost"
    UNKNOWN = "unknown"  # a rebalance under way, or the coordinator does not answer: ask again


class MembershipListener(Protocol):
    def assigned(self, partitions: Collection[int]) -> None: ...

    def revoked(self, partitions: Collection[int], done: Callable[[], None]) -> None:
        """Drain, then call `done`: the partitions are given up no later than a deadline."""
        ...

    def lost(self, partitions: Collection[int]) -> None: ...


class Membership(Protocol):
    """This process's place in an app's worker group: who is *candidate* for which shard."""

    def start(self, listener: MembershipListener) -> None: ...

    async def check_lease(self, partition: int, inbox_offset: int | None) -> Lease:
        """A synchronous offset commit by the present member (rule R3)."""
        ...

    def commit(self, partition: int, inbox_offset: int) -> None:
        """For lag dashboards only: intake starts at the folded position, never at this one."""
        ...

    async def checkpoint(self, partition: int) -> int | None:
        """The offset of the history that was noted last; only a hint, for whoever folds next."""
        ...

    def note_checkpoint(self, partition: int, history_offset: int) -> None:
        """Keep the hint beside the group's offsets (rule R25)."""
        ...

    async def close(self, leave: bool = False) -> None:
        """`leave`: not to come back under this name, so let the others have the shards now."""
        ...


class TopicFacts(NamedTuple):
    name: str
    topic_id: str
    partitions: int


class AppTopics(NamedTuple):
    inbox: TopicFacts
    control: TopicFacts
    history: TopicFacts
    dlq: TopicFacts
    unsafe: bool  # the relaxed settings of a single-broker development cluster


class Journal(Protocol):
    """The log as one process sees it."""

    @property
    def appender(self) -> Appender: ...

    @property
    def reader(self) -> Reader: ...

    def membership(self, app: str) -> Membership: ...

    async def topics(self, app: str) -> AppTopics:
        """Describe the app's topics and refuse unsafe ones (rule R2)."""
        ...

    async def close(self) -> None: ...


class Extent(NamedTuple):
    """What of a partition can be read: from offset `first` up to, and without, `end`.

    settled: where it ended before the ends of the other partitions were looked at. What a
    record before it was caused by is before their ends.
    """

    topic_id: str
    first: int
    end: int
    settled: int


class Scan(Protocol):
    """Reads what is there, once and in order, for programs that look at a log as it lies.

    Blocking, unlike the rest here, and made to be handed to another process.
    """

    def partitions(self, topic: str) -> Sequence[int]:
        """Those that can be read; none when the topic is not there."""
        ...

    def extent(self, topic: str, partition: int) -> Extent: ...

    def read(
        self, topic: str, partition: int, first: int, end: int, *, with_headers: bool = False
    ) -> Iterator[Sequence[LogRecord]]:
        """The records of these offsets. Without headers it is faster, and they are empty."""
        ...
