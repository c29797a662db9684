"""The journal's contract on memory, and what its tools for breaking things do."""

from __future__ import annotations

import asyncio

import pytest

from stepfold.journal.memory import MemoryCluster, MemoryJournal
from stepfold.journal.port import Lease, Report
from tests.contract.group_contract import Candidate, MembershipContract
from tests.contract.journal_contract import (
    PARTITIONS,
    AppendingContract,
    DescribingContract,
    ReadingContract,
    World,
    append,
    numbered,
    on_loop,
    until,
)


class MemoryWorld(World):
    def __init__(self) -> None:
        self.app = "app"
        self.cluster = MemoryCluster()
        self.cluster.create_app(self.app, PARTITIONS)
        self._journals: list[MemoryJournal] = []

    def journal(self, member: str) -> MemoryJournal:
        journal = MemoryJournal(self.cluster, member)
        self._journals.append(journal)
        return journal

    async def delete_records(self, topic: str, partition: int, before_offset: int) -> None:
        self.cluster.delete_records(topic, partition, before_offset)

    async def close(self) -> None:
        for journal in self._journals:
            await journal.close()


@pytest.fixture
def world() -> MemoryWorld:
    return MemoryWorld()


class TestAppending(AppendingContract): ...


class TestReading(ReadingContract): ...


class TestMembership(MembershipContract): ...


class TestDescribing(DescribingContract): ...


class TestBreaking:
    def test_a_cut_appender_reports_once_it_is_mended(self, world: MemoryWorld) -> None:
        async def claim() -> None:
            journal = world.journal("a")
            reports: list[Report] = []
            journal.appender.cut(lands=True)
            journal.appender.append(world.history, 0, b"", b"x", [], reports.append)
            await until(lambda: len(world.cluster.records(world.history, 0)) == 1)
            reported_before = list(reports)
            journal.appender.mend()
            await until(lambda: len(reports) == 1)

            assert reported_before == []
            assert reports[0].offset == 0

        asyncio.run(claim())

    def test_a_failed_append_may_have_landed(self, world: MemoryWorld) -> None:
        async def claim() -> None:
            journal = world.journal("a")
            journal.appender.fail_next("lost", lands=True)
            journal.appender.fail_next("lost")
            reports = await append(journal, world.history, 0, numbered(3))

            assert [(r.offset, r.error) for r in reports] == [
                (None, "lost"),
                (None, "lost"),
                (1, None),
            ]
            landed = world.cluster.records(world.history, 0)
            assert [record.value for record in landed] == [b"0", b"2"]

        asyncio.run(claim())

    def test_a_report_may_name_another_place(self, world: MemoryWorld) -> None:
        async def claim() -> None:
            journal = world.journal("a")
            journal.appender.misreport_next(7)
            reports = await append(journal, world.history, 0, numbered(2))

            assert [report.offset for report in reports] == [7, 1]

        asyncio.run(claim())

    def test_a_failed_client_reports_everything_outstanding(self, world: MemoryWorld) -> None:
        async def claim() -> None:
            journal = world.journal("a")
            reports: list[Report] = []
            for value in numbered(3):
                journal.appender.append(world.history, 0, b"", value, [], reports.append)
            journal.appender.fail_client("fatal")
            await until(lambda: len(reports) == 3)
            (after,) = await append(journal, world.history, 0, [b"x"])

            assert {(report.offset, report.error) for report in reports} == {(None, "fatal")}
            assert after.offset == 0

        asyncio.run(claim())

    def test_a_delayed_appender_keeps_the_order(self, world: MemoryWorld) -> None:
        async def claim() -> None:
            journal = world.journal("a")
            reports: list[Report] = []
            journal.appender.delay_ms = 20
            journal.appender.append(world.history, 0, b"", b"slow", [], reports.append)
            journal.appender.delay_ms = 0
            journal.appender.append(world.history, 0, b"", b"fast", [], reports.append)
            await until(lambda: len(reports) == 2)

            landed = world.cluster.records(world.history, 0)
            assert [record.value for record in landed] == [b"slow", b"fast"]

        asyncio.run(claim())

    def test_a_member_fenced_without_being_told_has_lost_its_lease(
        self, world: MemoryWorld
    ) -> None:
        async def claim() -> None:
            paused = Candidate()
            membership = world.journal("a").membership(world.app)
            membership.start(paused)
            await until(lambda: len(paused.partitions) == PARTITIONS)
            world.cluster.fence(world.app, "a", told=False)

            assert len(paused.partitions) == PARTITIONS
            assert await membership.check_lease(0, None) is Lease.LOST

        asyncio.run(claim())

    def test_a_lost_session_gets_its_partitions_back(self, world: MemoryWorld) -> None:
        async def claim() -> None:
            candidate = Candidate()
            membership = world.journal("a").membership(world.app)
            membership.start(candidate)
            await until(lambda: len(candidate.partitions) == PARTITIONS)
            world.cluster.lose_session(world.app, "a")
            await until(lambda: len(candidate.lost_partitions) == PARTITIONS)
            await until(lambda: len(candidate.partitions) == PARTITIONS)

            assert await membership.check_lease(0, None) is Lease.HELD

        asyncio.run(claim())

    def test_a_killed_process_hears_nothing_and_another_takes_over(
        self, world: MemoryWorld
    ) -> None:
        async def claim() -> None:
            killed, heir = Candidate(), Candidate()
            journal = world.journal("a")
            journal.membership(world.app).start(killed)
            await until(lambda: len(killed.partitions) == PARTITIONS)
            journal.kill()
            world.journal("b").membership(world.app).start(heir)
            await until(lambda: len(heir.partitions) == PARTITIONS)

            assert killed.lost_partitions == set()

        asyncio.run(claim())

    @on_loop
    async def test_a_partition_can_be_moved(self, world: World) -> None:
        assert isinstance(world, MemoryWorld)
        first, second = Candidate(), Candidate()
        world.journal("a").membership(world.app).start(first)
        world.journal("b").membership(world.app).start(second)
        await until(lambda: len(second.partitions) == PARTITIONS // 2)
        moved = min(first.partitions)

        world.cluster.move(world.app, moved, "b")
        await until(lambda: moved in second.partitions)

        assert moved not in first.partitions
