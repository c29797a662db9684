"""Follows all histories and keeps the store up to date.

The reader's batches are collected while a transaction is under way, so that a backlog
is taken in large ones and a live event in a small one at once. What cannot be written
is tried again: the positions in the store say from where.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple, ParamSpec, TypeVar

from stepfold.journal.port import Batch, Reader, TopicFacts
from stepfold_projections.projection import Piece, Place, Projection
from stepfold_projections.store import ShardRow, TraceStore

logger = logging.getLogger(__name__)

P = ParamSpec("P")
R = TypeVar("R")

BATCH_RECORDS_MAX = 2_000
"""Records of one transaction, give or take a batch of the reader."""
WAITING_RECORDS_MAX = 10_000
"""Records read and not yet written, at which reading pauses."""
DISCOVERY_S = 3.0
"""Between looks for new apps."""
RETRY_FIRST_S = 0.2
RETRY_MAX_S = 10.0
READ_THREADS = 4


class HistoryOf(NamedTuple):
    """An app that is followed."""

    app: str
    history: TopicFacts


Discover = Callable[[], Awaitable[list[HistoryOf]]]


class AsyncStore:
    """A store used from an event loop: one thread writes, some others read."""

    def __init__(self, store: TraceStore) -> None:
        self.store = store
        self._writing = ThreadPoolExecutor(1, thread_name_prefix="store-write")
        self._reading = ThreadPoolExecutor(READ_THREADS, thread_name_prefix="store-read")

    async def write(self, call: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._writing, partial(call, *args, **kwargs))

    async def read(self, call: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._reading, partial(call, *args, **kwargs))

    def close(self) -> None:
        """Waits for the transaction that is under way."""
        self._writing.shutdown(wait=True, cancel_futures=True)
        self._reading.shutdown(wait=True, cancel_futures=True)
        self.store.close()


@dataclass(slots=True)
class _Followed:
    history: TopicFacts
    shard: ShardRow
    was_at_end: bool = False


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
        if not position.app or position.kind not in ("inbox", "control", "history"):
            raise ValueError(
                f"not a position: {text!r}; one looks like research.inbox/3/1042, "
                "as answers to POST have it"
            )
        return position


class Projector:
    def __init__(self, store: AsyncStore, reader: Reader, discover: Discover) -> None:
        self._store = store
        self._reader = reader
        self._discover = discover
        self._projection = Projection(store.store)
        self._followed: dict[Place, _Followed] = {}
        self._pieces: list[Piece] = []
        self._waiting = 0
        self._is_paused = False
        self._is_writing = False
        self._news = asyncio.Event()
        self._moved = asyncio.Condition()
        self.records_total = 0
        self.trouble = ""
        """What keeps the projection from going on as a whole; empty: nothing."""

    async def run(self) -> None:
        """Until cancelled."""
        await self._store.write(self._projection.load)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._follow_apps(), name="discovery")
            tasks.create_task(self._project(), name="projection")

    @property
    def apps(self) -> list[str]:
        return sorted({app for app, _ in self._followed})

    @property
    def is_caught_up(self) -> bool:
        """Whether every history was read to its end once since the start."""
        return all(f.was_at_end or f.shard.fault for f in self._followed.values())

    @property
    def is_idle(self) -> bool:
        """Caught up, and everything read is written."""
        return self.is_caught_up and not self._waiting and not self._is_writing

    @property
    def shards(self) -> list[ShardRow]:
        return [f.shard for f in self._followed.values()]

    @property
    def faults(self) -> list[str]:
        return [
            f"{app}.history/{partition}: {followed.shard.fault}"
            for (app, partition), followed in self._followed.items()
            if followed.shard.fault
        ]

    async def wait_passed(self, position: LogPosition, timeout_s: float) -> bool:
        """Whether the store shows this position within the time."""
        try:
            async with asyncio.timeout(timeout_s), self._moved:
                await self._moved.wait_for(lambda: self._has_passed(position))
        except TimeoutError:
            return False
        return True

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
                self.trouble = ""
            except Exception as error:  # noqa: BLE001 - whatever it is, it is shown and tried again
                self._report("apps cannot be listed", error)
            await asyncio.sleep(DISCOVERY_S)

    async def _follow(self, app: str, history: TopicFacts) -> None:
        for number in range(history.partitions):
            shard = await self._store.write(self._projection.join, app, history, number)
            self._followed[app, number] = _Followed(history, shard)
            if shard.fault:
                logger.error(
                    "history cannot be projected",
                    extra={"app": app, "partition": number, "reason": shard.fault},
                )
                continue
            self._open(app, number)

    def _open(self, app: str, partition: int) -> None:
        followed = self._followed[app, partition]
        sink = partial(self._take, app, partition)
        self._reader.open(followed.history.name, partition, followed.shard.next_offset, sink)

    def _take(self, app: str, partition: int, batch: Batch) -> None:
        followed = self._followed[app, partition]
        if batch.error is not None:
            followed.shard.fault = (
                f"the history cannot be read from offset {followed.shard.next_offset} on: "
                f"{batch.error}; fill the store anew with: stepfold projections rebuild"
            )
            logger.error(
                "history cannot be projected",
                extra={"app": app, "partition": partition, "reason": followed.shard.fault},
            )
            return
        followed.was_at_end = followed.was_at_end or batch.at_end
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
            async with self._moved:
                self._moved.notify_all()

    def _next_pieces(self) -> list[Piece]:
        count = size = 0
        while count < len(self._pieces) and size < BATCH_RECORDS_MAX:
            size += len(self._pieces[count].records)
            count += 1
        pieces, self._pieces = self._pieces[:count], self._pieces[count:]
        self._waiting -= size
        return pieces

    async def _write(self, pieces: list[Piece]) -> None:
        """Until it is written: records that the store has already are passed over."""
        delay_s = RETRY_FIRST_S
        while True:
            try:
                self.records_total += await self._store.write(self._projection.take, pieces)
            except Exception as error:  # noqa: BLE001 - disk full, locked, a second projector …
                self._report("the store cannot be written", error)
                self._refresh()
                await asyncio.sleep(delay_s)
                delay_s = min(delay_s * 2, RETRY_MAX_S)
            else:
                self.trouble = ""
                return

    def _refresh(self) -> None:
        """After a failure the projection has read its shards from the store again."""
        for shard in self._projection.shards():
            followed = self._followed.get((shard.app, shard.partition))
            if followed is not None:
                followed.shard = shard

    def _report(self, what: str, error: Exception) -> None:
        if not self.trouble:
            logger.warning(what, extra={"reason": str(error)})
        self.trouble = f"{what}: {error}"
