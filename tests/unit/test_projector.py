"""The projector at its edges: slow and moved stores, unreadable logs, apps that are not there."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from stepfold.core.errors import KafkaError
from stepfold.journal.memory import BATCH_RECORDS_MAX, MemoryCluster, MemoryJournal
from stepfold.journal.port import LogRecord, TopicFacts
from stepfold_projections import projector as projectors
from stepfold_projections import tables
from stepfold_projections.asyncstore import AsyncStore
from stepfold_projections.projector import HistoryOf, LogPosition, Projector
from stepfold_projections.sqlstore import SqlStore
from stepfold_projections.store import Changes
from tests.unit.history_samples import APP, HISTORY, HistoryMaker, random_history

TIMEOUT_S = 20.0
LOOK_S = 0.01
MOMENT_S = 0.1
"""Long enough for whatever should not happen."""
OTHER = "audit"


class GatedStore(SqlStore):
    """Commits only while its gate is open, and fails as it is told to."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.gate = threading.Event()
        self.gate.set()
        self.failure: Exception | None = None

    def apply(self, changes: Changes) -> None:
        assert self.gate.wait(TIMEOUT_S)
        if self.failure is not None:
            raise self.failure
        super().apply(changes)


class World:
    """Histories in memory, and projectors that fill stores in a folder from them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.cluster = MemoryCluster()
        self.apps: dict[str, TopicFacts] = {}
        self.trouble: Exception | None = None

    def store(self, name: str = "traces") -> GatedStore:
        store = GatedStore(f"sqlite:///{self.folder / name}.db")
        store.open()
        return store

    def write(self, app: str, records: Sequence[LogRecord], partitions: int = 1) -> None:
        if app not in self.apps:
            self.apps[app] = self.cluster.create_topic(f"{app}.history", partitions)
        for record in records:
            self.cluster.append(f"{app}.history", 0, None, record.value, [])

    async def discover(self) -> list[HistoryOf]:
        if self.trouble is not None:
            raise self.trouble
        return [HistoryOf(app, facts) for app, facts in self.apps.items()]

    @asynccontextmanager
    async def projecting(self, store: SqlStore, *wanted: str) -> AsyncGenerator[Projector]:
        journal = MemoryJournal(self.cluster, "projector")
        background = AsyncStore(store)
        projector = Projector(background, journal.reader, self.discover, wanted)
        running = asyncio.create_task(projector.run())
        try:
            yield projector
        finally:
            running.cancel()
            await asyncio.wait((running,))
            await journal.close()
            await asyncio.to_thread(background.close)

    def whole(self, records: Sequence[LogRecord]) -> list[list[dict[str, Any]]]:
        """What a store holds that was filled without any trouble."""
        store = self.store("whole")

        async def fill() -> None:
            async with self.projecting(store) as projector:
                await until(lambda: passed(projector, len(records)))

        asyncio.run(fill())
        return contents(store)


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setattr(projectors, "DISCOVERY_S", LOOK_S)
    monkeypatch.setattr(projectors, "RETRY_FIRST_S", LOOK_S)
    return World(tmp_path)


def contents(store: SqlStore) -> list[list[dict[str, Any]]]:
    with store._engine.connect() as connection:  # pyright: ignore[reportPrivateUsage]
        return [
            sorted((dict(row) for row in connection.execute(select(table)).mappings()), key=repr)
            for table in (tables.runs, tables.events, tables.shards)
        ]


def play(scenario: Coroutine[Any, Any, None]) -> None:
    async def main() -> None:
        async with asyncio.timeout(TIMEOUT_S):
            await scenario

    asyncio.run(main())


async def until(is_so: Callable[[], object]) -> None:
    while True:
        if is_so():
            return
        await asyncio.sleep(LOOK_S)


def passed(projector: Projector, count: int, app: str = APP) -> bool:
    return any(s.app == app and s.next_offset == count for s in projector.shards)


def claims(count: int) -> list[LogRecord]:
    """A history without runs: two apps never have runs of the same id."""
    log = HistoryMaker()
    for nonce in range(count):
        log.claim(nonce)
    return log.records


def at(offset: int) -> LogPosition:
    return LogPosition(APP, "history", 0, offset)


def test_position_is_not_passed_before_its_transaction_is_committed(world: World) -> None:
    records = random_history(1)
    store = world.store()

    async def scenario() -> None:
        store.gate.clear()
        async with world.projecting(store) as projector:
            world.write(APP, records)
            seen_early = await projector.wait_passed(at(0), MOMENT_S)
            shown_early = [shard.next_offset for shard in projector.shards]
            store.gate.set()
            seen = await projector.wait_passed(at(len(records) - 1), TIMEOUT_S)

            assert (seen_early, shown_early) == (False, [0])
            assert seen

    play(scenario())


def test_store_that_is_filled_anew_beneath_a_projector_misses_nothing(world: World) -> None:
    records = random_history(2)
    world.write(APP, records[:40])
    live = world.store()

    async def scenario() -> None:
        async with world.projecting(live) as projector:
            await until(lambda: passed(projector, 40))
            live.gate.clear()
            world.write(APP, records[40:80])
            await asyncio.sleep(MOMENT_S)  # the batch is read, and waits to be written
            world.store().clear()
            live.gate.set()
            world.write(APP, records[80:])
            await until(lambda: passed(projector, len(records)))

    play(scenario())

    assert contents(live) == world.whole(records)


def test_two_projectors_on_one_store_write_each_event_once(world: World) -> None:
    records = random_history(3, events=400)
    first, second = world.store(), world.store()

    async def scenario() -> None:
        async with world.projecting(first) as one, world.projecting(second) as two:
            for start in range(0, len(records), 20):
                world.write(APP, records[start : start + 20])
                await asyncio.sleep(0)
            await until(lambda: passed(one, len(records)) and passed(two, len(records)))

    play(scenario())

    assert contents(first) == world.whole(records)


def test_store_that_cannot_be_written_is_told_until_it_can(world: World) -> None:
    store = world.store()

    async def scenario() -> None:
        store.failure = OSError("disk full")
        async with world.projecting(store) as projector:
            world.write(APP, random_history(4))
            await until(lambda: projector.trouble)
            await asyncio.sleep(MOMENT_S)  # some looks for apps, which succeed, later
            told = projector.trouble
            store.failure = None
            await until(lambda: not projector.trouble)

            assert told == "the store cannot be written: disk full"
            assert projector.shards[0].next_offset > 0

    play(scenario())


def test_projector_is_not_caught_up_before_it_knows_what_there_is(world: World) -> None:
    async def scenario() -> None:
        world.trouble = KafkaError("no answer")
        async with world.projecting(world.store()) as projector:
            at_first = projector.is_caught_up
            await until(lambda: projector.trouble)
            in_trouble = projector.is_caught_up
            world.trouble = None
            await until(lambda: projector.is_caught_up)

            assert (at_first, in_trouble) == (False, False)
            assert projector.trouble == ""

    play(scenario())


def test_app_that_is_wanted_and_not_there_is_named_and_followed_once_it_is(world: World) -> None:
    async def scenario() -> None:
        async with world.projecting(world.store(), APP) as projector:
            await until(lambda: projector.missing)
            named, caught_up = projector.missing, projector.is_caught_up
            world.write(APP, random_history(5))
            await until(lambda: projector.is_idle)

            assert (named, caught_up) == ([APP], False)
            assert projector.apps == [APP]
            assert projector.is_served(APP)
            assert not projector.is_served(OTHER)

    play(scenario())


def test_unreadable_record_stops_its_partition_and_nobody_waits_for_it(world: World) -> None:
    log = HistoryMaker()
    log.claim(1)
    log.append_bytes(b"\xc3\x01garbage!")

    async def scenario() -> None:
        async with world.projecting(world.store()) as projector:
            world.write(APP, log.records)
            world.write(OTHER, claims(120))
            waited = await projector.wait_passed(at(1), TIMEOUT_S)
            await until(lambda: passed(projector, 120, OTHER))

            assert not waited
            assert projector.faults[0].startswith(f"{APP}.history/0: offset 1 cannot be read")
            assert projector.is_caught_up
            assert not projector.is_current(APP, 0)
            assert projector.is_current(OTHER, 0)

    play(scenario())


def test_topic_that_was_created_anew_is_not_mixed_with_its_forerunner(world: World) -> None:
    store = world.store()

    async def scenario() -> None:
        world.write(APP, random_history(7))
        async with world.projecting(store) as projector:
            await until(lambda: projector.is_idle)
        del world.apps[APP]
        world.write(APP, random_history(8))
        async with world.projecting(world.store()) as again:
            await until(lambda: again.faults)

            assert "created anew" in again.faults[0]
            assert f"projections rebuild --app {APP}" in again.faults[0]

    play(scenario())


def test_log_whose_beginning_was_deleted_is_told(world: World) -> None:
    async def scenario() -> None:
        world.write(APP, random_history(9))
        world.cluster.delete_records(HISTORY.name, 0, 10)
        async with world.projecting(world.store()) as projector:
            waited = await projector.wait_passed(at(5), TIMEOUT_S)

            assert not waited
            assert "the log holds 10 up to" in projector.faults[0]

    play(scenario())


def test_reading_pauses_while_nothing_can_be_written(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(projectors, "WAITING_RECORDS_MAX", 600)
    monkeypatch.setattr(projectors, "BATCH_RECORDS_MAX", 1)
    store = world.store()

    log = claims(5_000)

    async def scenario() -> None:
        world.write(APP, log[:1])
        world.write(OTHER, log[:1])
        async with world.projecting(store) as projector:
            await until(lambda: projector.is_idle)
            store.gate.clear()
            world.write(APP, log[1:])
            world.write(OTHER, log[1:])
            await asyncio.sleep(MOMENT_S)
            waiting = projector._waiting  # pyright: ignore[reportPrivateUsage]
            store.gate.set()
            await until(lambda: passed(projector, 5_000) and passed(projector, 5_000, OTHER))

            assert 0 < waiting <= 600 + 2 * BATCH_RECORDS_MAX
            assert projector.records_total == 10_000

    play(scenario())
