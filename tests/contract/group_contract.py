"""What every membership of a worker group promises; part of the journal's contract."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from typing import Any

from stepfold.journal.port import Lease
from tests.contract.journal_contract import PARTITIONS, WAIT_S, World, on_loop, until

LEAVE_MAX_S = 4.0
"""Well below the session timeout, which is what a member that just ends would cost."""


class Candidate:
    """A MembershipListener that keeps the books; it gives up at once, unless told to hold on."""

    def __init__(self, *, holds_on: bool = False) -> None:
        self.partitions: set[int] = set()
        self.lost_partitions: set[int] = set()
        self.waiting: list[Callable[[], None]] = []
        self._holds_on = holds_on

    def assigned(self, partitions: Collection[int]) -> None:
        self.partitions.update(partitions)

    def revoked(self, partitions: Collection[int], done: Callable[[], None]) -> None:
        self.partitions.difference_update(partitions)
        if self._holds_on:
            self.waiting.append(done)
        else:
            done()

    def lost(self, partitions: Collection[int]) -> None:
        self.partitions.difference_update(partitions)
        self.lost_partitions.update(partitions)


class MembershipContract:
    @on_loop
    async def test_a_member_alone_gets_every_partition_and_holds_each(self, world: World) -> None:
        alone = Candidate()
        membership = world.journal("a").membership(world.app)
        membership.start(alone)
        await until(lambda: len(alone.partitions) == PARTITIONS)

        leases = [await membership.check_lease(p, None) for p in range(PARTITIONS)]
        again = await membership.check_lease(1, 7)

        assert leases == [Lease.HELD] * PARTITIONS
        assert again is Lease.HELD

    @on_loop
    async def test_a_checkpoint_is_told_to_whoever_asks_next(self, world: World) -> None:
        alone = Candidate()
        membership = world.journal("a").membership(world.app)
        membership.start(alone)
        await until(lambda: len(alone.partitions) == PARTITIONS)
        before = await membership.checkpoint(1)

        membership.note_checkpoint(1, 41)
        membership.note_checkpoint(1, 77)
        async with asyncio.timeout(WAIT_S):
            while await membership.checkpoint(1) != 77:
                pass

        assert before is None
        assert await membership.checkpoint(0) is None

    @on_loop
    async def test_two_members_share_the_partitions(self, world: World) -> None:
        first, second = Candidate(), Candidate()
        one = world.journal("a").membership(world.app)
        one.start(first)
        await until(lambda: len(first.partitions) == PARTITIONS)
        two = world.journal("b").membership(world.app)
        two.start(second)
        await until(lambda: len(first.partitions) == len(second.partitions) == PARTITIONS // 2)

        moved, kept = min(second.partitions), min(first.partitions)

        assert first.partitions | second.partitions == set(range(PARTITIONS))
        assert await one.check_lease(moved, None) is Lease.LOST
        assert await held(one, kept)
        assert await held(two, moved)

    @on_loop
    async def test_a_partition_moves_only_after_it_was_given_up(self, world: World) -> None:
        first, second = Candidate(holds_on=True), Candidate()
        world.journal("a").membership(world.app).start(first)
        await until(lambda: len(first.partitions) == PARTITIONS)
        world.journal("b").membership(world.app).start(second)
        await until(lambda: bool(first.waiting))
        assigned_before = set(second.partitions)

        first.waiting.pop()()
        await until(lambda: len(second.partitions) == PARTITIONS // 2)

        assert assigned_before == set()
        assert first.lost_partitions == set()

    @on_loop
    async def test_a_second_process_of_the_name_takes_the_place(self, world: World) -> None:
        former, present = Candidate(), Candidate()
        membership = world.journal("a").membership(world.app)
        membership.start(former)
        await until(lambda: len(former.partitions) == PARTITIONS)

        successor = world.journal("a").membership(world.app)
        successor.start(present)
        await until(lambda: len(present.partitions) == PARTITIONS)
        await until(lambda: len(former.lost_partitions) == PARTITIONS)

        assert await membership.check_lease(0, None) is Lease.LOST
        assert await held(successor, 0)

    @on_loop
    async def test_a_member_that_leaves_is_replaced_at_once(self, world: World) -> None:
        leaving, staying = Candidate(), Candidate()
        one = world.journal("a").membership(world.app)
        one.start(leaving)
        await until(lambda: len(leaving.partitions) == PARTITIONS)
        world.journal("b").membership(world.app).start(staying)
        await until(lambda: len(staying.partitions) == PARTITIONS // 2)

        await one.close(leave=True)
        async with asyncio.timeout(LEAVE_MAX_S):
            await until(lambda: len(staying.partitions) == PARTITIONS)


async def held(membership: Any, partition: int) -> bool:
    """Whether the lease is held, once a rebalance that may be under way has ended."""
    async with asyncio.timeout(WAIT_S):
        while True:
            lease = await membership.check_lease(partition, None)
            if lease is not Lease.UNKNOWN:
                return lease is Lease.HELD
