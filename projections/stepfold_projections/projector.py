"""Follows all histories and keeps the store up to date.

The reader's batches are collected while a transaction is under way, so that a backlog
is taken in large ones and a live event in a small one at once. What cannot be written
is tried again. When somebody else has moved the store (a rebuild, a second projector),
everything read is dropped and reading begins where the store now is.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

from stepfold.journal.port import Batch, Reader, TopicFacts
from stepfold_projections.asyncstore import AsyncStore
from stepfold_projections.projection import Piece, Place, Projection
from stepfold_projections.store import ShardRow, StoreConflictError

logger = logging.getLogger(__name__)

BATCH_RECORDS_MAX = 2_000
"""Records of one transaction, give or take a batch of the reader."""
WAITING_RECORDS_MAX = 10_000
"""Records read and not yet written, at which reading pauses."""
DISCOVERY_S = 3.0
"""Between looks for new apps."""
RETRY_FIRST_S = 0.2
RETRY_MAX_S = 10.0
KINDS = ("inbox", "control", "history")


class HistoryOf(NamedTuple):
    """An app that is followed."""

    app: str
    history: TopicFacts


Discover = Callable[[], Awaitable[list[HistoryOf]]]


@dataclass(slots=True)
class _Followed:
    """shard: as the store has it. trouble: why the log itself cannot be read (on).

    read_to: the offset behind the last record read. first_end: what that was when the end
    of the log was seen for the first time.
    """

    history: TopicFacts
    shard: ShardRow
    read_to: int = 0
    first_end: int | None = None
    trouble: str = ""

    @property
    def is_current(self) -> bool:
        """Whether the store has all that there was at the first sight of the end."""
        return self.first_end is not None and self.shard.next_offset >= self.first_end

    @property
    def fault(self) -> str:
        return self.trouble or self.shard.fault


class LogPosition(NamedTuple):
    """A place that a projection can be asked to have passed: `<topic>/<partition>/<offset>`."""

    app: str
    kind: str  # inbox | control | history
    partition: int
    offset: int

    @classmethod
    def parse(cls, text: str) -> LogPosition:
        """Raises ValueError for a text that is none."""
        try:
            topic, partition, offset = text.rsplit("/", 2)
            app, _, kind = topic.rpartition(".")
            position = cls(app, kind, int(partition), int(offset))
        except ValueError:
            position = cls("", "", -1, -1)
        is_place = position.partition >= 0 and position.offset >= 0
        if not position.app or position.kind not in KINDS or not is_place:
            raise ValueError(
                f"not a position: {text!r}; one looks like research.inbox/3/1042, "
                "as answers to POST have it"
            )
        return position


class Projector:
    """wanted: the apps that are to be followed; empty: every one that `discover` tells of."""

    def __init__(
        self, store: AsyncStore, reader: Reader, discover: Discover, wanted: Collection[str] = ()
    ) -> None:
        self._store = store
        self._reader = reader
        self._discover = discover
        self._wanted = frozenset(wanted)
        self._projection = Projection(store.store)
        self._followed: dict[Place, _Followed] = {}
        self._has_looked = False
        self._pieces: list[Piece] = []
        self._waiting = 0
        self._is_paused = False
        self._is_writing = False
        self._news = asyncio.Event()
        self._moved = asyncio.Event()
        self._unlisted = ""
        self._unwritten = ""
        self.records_total = 0

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._follow_apps(), name="discovery")
            tasks.create_task(self._project(), name="projection")

    @property
    def trouble(self) -> str:
        """What keeps the projection from going on as a whole; empty: nothing."""
        return "; ".join(filter(None, (self._unlisted, self._unwritten)))

    @property
    def apps(self) -> list[str]:
        return sorted({app for app, _ in self._followed})

    @property
    def missing(self) -> list[str]:
        """Apps that are wanted and are not at this Kafka."""
        return sorted(self._wanted.difference(self.apps)) if self._has_looked else []

    @property
    def is_caught_up(self) -> bool:
        """Whether every history there is was projected to its end once since the start."""
        if not self._has_looked or self.missing:
            return False
        return all(f.is_current or f.fault for f in self._followed.values())

    @property
    def is_idle(self) -> bool:
        """Caught up, and everything read is written."""
        return self.is_caught_up and not self._waiting and not self._is_writing

    @property
    def shards(self) -> list[ShardRow]:
        """As the store has them, with whatever keeps them from going on as their fault."""
        return [replace(f.shard, fault=f.fault) for f in self._followed.values()]

    @property
    def faults(self) -> list[str]:
        return [
            f"{app}.history/{partition}: {followed.fault}"
            for (app, partition), followed in self._followed.items()
            if followed.fault
        ]

    def fault_of(self, app: str, partition: int) -> str:
        """Why this partition stands still; empty when it does not."""
        followed = self._followed.get((app, partition))
        return followed.fault if followed is not None else ""

    def is_current(self, app: str, partition: int) -> bool:
        """Whether the store has this partition, but for what came a moment ago."""
        followed = self._followed.get((app, partition))
        return followed is not None and followed.is_current and not followed.fault

    def is_served(self, app: str) -> bool:
        """Whether the app is, or will be when it appears, followed here."""
        return not self._wanted or app in self._wanted

    async def wait_passed(self, position: LogPosition, timeout_s: float) -> bool:
        """Whether the store shows this position within the time; not longer if it never will."""
        place = (position.app, position.partition)
        try:
            async with asyncio.timeout(timeout_s):
                while not (self._has_passed(position) or self.fault_of(*place)):
                    await self._moved.wait()
        except TimeoutError:
            return False
        return self._has_passed(position)

    def _tell_moved(self) -> None:
        """Wake whoever waits; the next one to wait waits for the next move."""
        self._moved.set()
        self._moved = asyncio.Event()

    def _has_passed(self, position: LogPosition) -> bool:
        followed = self._followed.get((position.app, position.partition))
        if followed is None:
            return False
        shard = followed.shard
        reached = {
            "inbox": shard.inbox_offset,
            "control": shard.control_offset,
            "history": shard.next_offset - 1,
        }
        return reached[position.kind] >= position.offset

    async def _follow_apps(self) -> None:
        while True:
            try:
                for app, history in await self._discover():
                    if (app, 0) not in self._followed:
                        await self._follow(app, history)
                self._unlisted = ""
                self._has_looked = True
            except Exception as error:  # noqa: BLE001 - whatever it is, it is shown and tried again
                if not self._unlisted:
                    logger.warning("apps cannot be listed", extra={"reason": str(error)})
                self._unlisted = f"apps cannot be listed: {error}"
            await asyncio.sleep(DISCOVERY_S)

    async def _follow(self, app: str, history: TopicFacts) -> None:
        """All partitions or none: one that fails is met again at the next look."""
        joined = [
            await self._store.write(self._projection.join, app, history, number)
            for number in range(history.partitions)
        ]
        for number, shard in enumerate(joined):
            self._followed[app, number] = _Followed(history, shard)
            self._begin(app, number)

    def _begin(self, app: str, partition: int) -> None:
        followed = self._followed[app, partition]
        if followed.shard.history_topic_id != followed.history.topic_id:
            self._stop_at(
                app,
                partition,
                f"topic {followed.history.name} was created anew since the store was filled; "
                f"fill it anew too, with: stepfold projections rebuild --app {app}",
            )
            return
        followed.read_to = followed.shard.next_offset
        sink = partial(self._take, app, partition)
        name = followed.history.name
        self._reader.open(name, partition, followed.shard.next_offset, sink)
        if self._is_paused:
            self._reader.pause(name, partition)

    def _stop_at(self, app: str, partition: int, trouble: str) -> None:
        self._followed[app, partition].trouble = trouble
        self._tell_moved()
        _report_fault(app, partition, trouble)

    def _take(self, app: str, partition: int, batch: Batch) -> None:
        followed = self._followed[app, partition]
        if batch.error is not None:
            self._stop_at(
                app,
                partition,
                f"the history cannot be read from offset {followed.shard.next_offset} on: "
                f"{batch.error}; if the end of the log was cut off, fill the store anew with: "
                f"stepfold projections rebuild --app {app}",
            )
            return
        if batch.records:
            followed.read_to = batch.records[-1].offset + 1
        if batch.at_end and followed.first_end is None:
            followed.first_end = followed.read_to
        if batch.records:
            self._pieces.append(Piece(app, partition, batch.records))
            self._waiting += len(batch.records)
            self._news.set()
            self._restrain()

    def _restrain(self) -> None:
        is_full = self._waiting > WAITING_RECORDS_MAX
        if is_full == self._is_paused:
            return
        self._is_paused = is_full
        for (_, partition), followed in self._followed.items():
            act = self._reader.pause if is_full else self._reader.resume
            act(followed.history.name, partition)

    async def _project(self) -> None:
        while True:
            await self._news.wait()
            pieces = self._next_pieces()
            if not pieces:
                self._news.clear()
                continue
            self._is_writing = True
            await self._write(pieces)
            self._is_writing = False
            self._restrain()
            self._tell_moved()

    def _next_pieces(self) -> list[Piece]:
        count = size = 0
        while count < len(self._pieces) and size < BATCH_RECORDS_MAX:
            size += len(self._pieces[count].records)
            count += 1
        pieces, self._pieces = self._pieces[:count], self._pieces[count:]
        self._waiting -= size
        return pieces

    async def _write(self, pieces: list[Piece]) -> None:
        """Until it is written, or until reading has to begin elsewhere."""
        delay_s = RETRY_FIRST_S
        while True:
            try:
                taken = await self._store.write(self._projection.take, pieces)
            except StoreConflictError as error:
                logger.warning("the store was moved, reading again", extra={"reason": str(error)})
                await self._begin_anew()
                return
            except Exception as error:  # noqa: BLE001 - disk full, locked, away …
                self._note_unwritten(error)
                await asyncio.sleep(delay_s)
                delay_s = min(delay_s * 2, RETRY_MAX_S)
            else:
                self._unwritten = ""
                self.records_total += taken.records
                self._note(taken.shards)
                return

    def _note(self, shards: Sequence[ShardRow]) -> None:
        for shard in shards:
            followed = self._followed[shard.app, shard.partition]
            if shard.fault and not followed.shard.fault:
                _report_fault(shard.app, shard.partition, shard.fault)
            followed.shard = shard

    async def _begin_anew(self) -> None:
        """Only the store knows how far it is: forget what was read, and read from there."""
        for (_, partition), followed in self._followed.items():
            self._reader.close(followed.history.name, partition)
            followed.first_end = None
        self._pieces.clear()
        self._waiting = 0
        self._is_paused = False
        delay_s = RETRY_FIRST_S
        for (app, partition), followed in list(self._followed.items()):
            while True:
                try:
                    followed.shard = await self._store.write(
                        self._projection.join, app, followed.history, partition
                    )
                    break
                except Exception as error:  # noqa: BLE001 - as in _write
                    self._note_unwritten(error)
                    await asyncio.sleep(delay_s)
                    delay_s = min(delay_s * 2, RETRY_MAX_S)
            followed.trouble = ""
            self._begin(app, partition)
        self._unwritten = ""

    def _note_unwritten(self, error: Exception) -> None:
        if not self._unwritten:
            logger.warning("the store cannot be written", extra={"reason": str(error)})
        self._unwritten = f"the store cannot be written: {error}"


def _report_fault(app: str, partition: int, reason: str) -> None:
    logger.error(
        "history cannot be projected",
        extra={"app": app, "partition": partition, "reason": reason},
    )
