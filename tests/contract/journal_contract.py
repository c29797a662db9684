"""What every journal promises; each implementation runs these tests on its own world."""

from __future__ import annotations

import asyncio
import functools
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine
from typing import Any, TypeAlias

import pytest

from stepfold.core.errors import KafkaError
from stepfold.journal.port import Batch, Journal, LogRecord, Report

PARTITIONS = 4
WAIT_S = 20.0
TEST_TIMEOUT_S = 60.0


class World(ABC):
    """An app with PARTITIONS partitions, and processes that see it."""

    app: str

    @abstractmethod
    def journal(self, member: str) -> Journal:
        """Call it on the loop; a second call with one name is a second process of that name."""

    @abstractmethod
    async def delete_records(self, topic: str, partition: int, before_offset: int) -> None: ...

    @abstractmethod
    async def close(self) -> None: ...

    @property
    def history(self) -> str:
        return f"{self.app}.history"

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        """On a loop of its own; a world with a time of its own has another kind of loop."""
        asyncio.run(work)


Claim: TypeAlias = Callable[[Any, World], Coroutine[Any, Any, None]]


def on_loop(claim: Claim) -> Callable[[Any, World], None]:
    @functools.wraps(claim)
    def run(self: Any, world: World) -> None:
        async def work() -> None:
            try:
                await asyncio.wait_for(claim(self, world), TEST_TIMEOUT_S)
            finally:
                await world.close()

        world.run(work())

    return run


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(WAIT_S):
        while not condition():  # noqa: ASYNC110 - the conditions are of many kinds
            await asyncio.sleep(0.005)


class Taken:
    """A sink that keeps what it was given."""

    def __init__(self) -> None:
        self.batches: list[Batch] = []

    def __call__(self, batch: Batch) -> None:
        self.batches.append(batch)

    @property
    def records(self) -> list[LogRecord]:
        return [record for batch in self.batches for record in batch.records]

    @property
    def offsets(self) -> list[int]:
        return [record.offset for record in self.records]

    @property
    def is_at_end(self) -> bool:
        return bool(self.batches) and self.batches[-1].at_end

    @property
    def error(self) -> str | None:
        return self.batches[-1].error if self.batches else None


async def append(journal: Journal, topic: str, partition: int, values: list[bytes]) -> list[Report]:
    reports: list[Report] = []
    for value in values:
        journal.appender.append(topic, partition, b"key", value, [("h", b"1")], reports.append)
    await until(lambda: len(reports) == len(values))
    return reports


def numbered(count: int) -> list[bytes]:
    return [b"%d" % number for number in range(count)]


class AppendingContract:
    @on_loop
    async def test_records_land_contiguously_in_the_order_of_the_calls(self, world: World) -> None:
        journal = world.journal("a")
        reports: dict[int, list[Report]] = {0: [], 1: []}
        for value in numbered(100):
            for partition, sink in reports.items():
                journal.appender.append(world.history, partition, b"", value, [], sink.append)
        await until(lambda: all(len(sink) == 100 for sink in reports.values()))

        taken = Taken()
        journal.reader.open(world.history, 1, 0, taken)
        await until(lambda: taken.is_at_end)

        for sink in reports.values():
            assert [report.offset for report in sink] == list(range(100))
            assert {report.error for report in sink} == {None}
            assert min(report.timestamp for report in sink) > 0
        assert [record.value for record in taken.records] == numbered(100)

    @on_loop
    async def test_a_report_never_comes_from_inside_the_call(self, world: World) -> None:
        journal = world.journal("a")
        inside = True
        told_inside: list[bool] = []

        for value in numbered(50):
            journal.appender.append(
                world.history, 0, b"", value, [], lambda _: told_inside.append(inside)
            )
        inside = False
        await until(lambda: len(told_inside) == 50)

        assert not any(told_inside)

    @on_loop
    async def test_an_append_from_a_report_is_taken(self, world: World) -> None:
        journal = world.journal("a")
        offsets: list[int | None] = []

        def go_on(report: Report) -> None:
            offsets.append(report.offset)
            if len(offsets) < 20:
                journal.appender.append(world.history, 0, b"", b"x", [], go_on)

        journal.appender.append(world.history, 0, b"", b"x", [], go_on)
        await until(lambda: len(offsets) == 20)

        assert offsets == list(range(20))

    @on_loop
    async def test_an_append_to_no_partition_is_reported_with_an_error(self, world: World) -> None:
        (report,) = await append(world.journal("a"), world.history, PARTITIONS + 5, [b"x"])

        assert report.offset is None
        assert report.error


class ReadingContract:
    @on_loop
    async def test_reading_starts_at_the_offset_and_tells_the_end(self, world: World) -> None:
        journal = world.journal("a")
        await append(journal, world.history, 2, numbered(10))

        taken = Taken()
        journal.reader.open(world.history, 2, 4, taken)
        await until(lambda: taken.is_at_end)

        assert taken.offsets == [4, 5, 6, 7, 8, 9]
        assert taken.batches[-1].position == 10
        first = taken.records[0]
        assert (first.topic, first.partition) == (world.history, 2)
        assert (first.key, first.value, list(first.headers)) == (b"key", b"4", [("h", b"1")])
        assert first.timestamp > 0

    @on_loop
    async def test_an_empty_partition_is_at_its_end_at_once(self, world: World) -> None:
        journal = world.journal("a")

        taken = Taken()
        journal.reader.open(world.history, 0, 0, taken)
        await until(lambda: taken.is_at_end)

        assert taken.records == []
        assert taken.batches[-1].position == 0

    @on_loop
    async def test_what_is_appended_after_the_end_follows(self, world: World) -> None:
        journal = world.journal("a")
        taken = Taken()
        journal.reader.open(world.history, 0, 0, taken)
        await until(lambda: taken.is_at_end)

        await append(journal, world.history, 0, numbered(30))
        await until(lambda: len(taken.records) == 30 and taken.is_at_end)

        assert taken.offsets == list(range(30))

    @on_loop
    async def test_a_closed_partition_delivers_nothing_more(self, world: World) -> None:
        journal = world.journal("a")
        await append(journal, world.history, 0, numbered(5))
        taken, witness = Taken(), Taken()
        journal.reader.open(world.history, 0, 0, taken)
        await until(lambda: taken.is_at_end)

        await append(journal, world.history, 0, numbered(5))
        journal.reader.close(world.history, 0)
        seen = list(taken.offsets)
        await append(journal, world.history, 0, numbered(5))
        journal.reader.open(world.history, 0, 0, witness)
        await until(lambda: len(witness.records) == 15)

        assert taken.offsets == seen

    @on_loop
    async def test_opening_an_open_partition_moves_it(self, world: World) -> None:
        journal = world.journal("a")
        await append(journal, world.history, 0, numbered(3_000))
        before, there, back = Taken(), Taken(), Taken()

        journal.reader.open(world.history, 0, 0, before)
        await until(lambda: bool(before.records))
        journal.reader.open(world.history, 0, 2_500, there)
        seen = len(before.batches)
        await until(lambda: there.is_at_end)
        journal.reader.open(world.history, 0, 10, back)
        seen_there = len(there.batches)
        await until(lambda: back.is_at_end)

        assert len(before.batches) == seen
        assert len(there.batches) == seen_there
        assert there.offsets == list(range(2_500, 3_000))
        assert back.offsets == list(range(10, 3_000))

    @on_loop
    async def test_a_pause_delivers_nothing_and_loses_nothing(self, world: World) -> None:
        journal = world.journal("a")
        await append(journal, world.history, 0, numbered(3_000))
        taken, witness = Taken(), Taken()

        journal.reader.open(world.history, 0, 0, taken)
        await until(lambda: bool(taken.records))
        journal.reader.pause(world.history, 0)
        seen = len(taken.batches)
        await append(journal, world.history, 1, numbered(10))
        journal.reader.open(world.history, 1, 0, witness)
        await until(lambda: witness.is_at_end)
        seen_in_pause = len(taken.batches)
        journal.reader.resume(world.history, 0)
        await until(lambda: taken.is_at_end and len(taken.records) >= 3_000)

        assert seen_in_pause == seen
        assert taken.offsets == list(range(3_000))

    @on_loop
    async def test_a_partition_paused_and_opened_again_is_not_paused(self, world: World) -> None:
        journal = world.journal("a")
        await append(journal, world.history, 0, numbered(10))
        taken, again = Taken(), Taken()

        journal.reader.open(world.history, 0, 0, taken)
        journal.reader.pause(world.history, 0)
        journal.reader.open(world.history, 0, 3, again)
        await until(lambda: again.is_at_end)

        assert again.offsets == list(range(3, 10))
        assert taken.batches == []

    @pytest.mark.parametrize("start", [0, 4])
    def test_a_deleted_start_is_reported_with_where_the_log_begins(
        self, world: World, start: int
    ) -> None:
        async def claim(_: object, world: World) -> None:
            journal = world.journal("a")
            await append(journal, world.history, 0, numbered(10))
            await world.delete_records(world.history, 0, 6)

            taken = Taken()
            journal.reader.open(world.history, 0, start, taken)
            await until(lambda: taken.error is not None)
            again = Taken()
            journal.reader.open(world.history, 0, taken.batches[-1].position, again)
            await until(lambda: again.is_at_end)

            assert taken.records == []
            assert taken.batches[-1].position == 6
            assert again.offsets == [6, 7, 8, 9]

        on_loop(claim)(self, world)

    @on_loop
    async def test_a_start_beyond_the_end_is_reported(self, world: World) -> None:
        journal = world.journal("a")
        await append(journal, world.history, 0, numbered(3))

        taken = Taken()
        journal.reader.open(world.history, 0, 50, taken)
        await until(lambda: taken.error is not None)

        assert taken.records == []
        assert taken.batches[-1].position == 3


class DescribingContract:
    @on_loop
    async def test_the_topics_of_an_app_are_described(self, world: World) -> None:
        topics = await world.journal("a").topics(world.app)

        described = (topics.inbox, topics.control, topics.history)
        assert [facts.name for facts in described] == [
            f"{world.app}.inbox",
            f"{world.app}.control",
            f"{world.app}.history",
        ]
        assert {facts.partitions for facts in described} == {PARTITIONS}
        assert len({facts.topic_id for facts in (*described, topics.dlq)}) == 4

    @on_loop
    async def test_an_app_without_topics_is_an_error_that_says_so(self, world: World) -> None:
        with pytest.raises(KafkaError, match=r"nobody\.inbox"):
            await world.journal("a").topics("nobody")
