"""A place in the worker group, with a coordinator that is slow to notice and slow to tell.

Who has which partition is decided by the group of the memory journal; here are the session
that expires when the coordinator does not hear of a process, the callbacks that come late
or not at all, and lease checks that get no answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from typing import Any

from stepfold.journal.memory_group import MemoryGroup, MemoryMembership
from stepfold.journal.port import Lease, MembershipListener
from tests.simulation.cluster import SimCluster
from tests.simulation.link import Link

REVOKE_TIMEOUT_US = 20_000_000
LEASE_TIMEOUT_S = 6.0
REJOIN_US_MAX = 300_000


class SimMembership(MemoryMembership):
    """A Membership."""

    def __init__(
        self,
        cluster: SimCluster,
        group: MemoryGroup,
        link: Link,
        member: str,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        super().__init__(group, member, loop)
        self.session_us = 10_000_000
        self.on_fatal: Callable[[], None] = lambda: None
        self._cluster = cluster
        self._universe = cluster.universe
        self._link = link
        self._told_us = 0
        self._is_first = True
        self._is_closed = False
        self._is_untold = False
        """The coordinator gave its place away, and it has not heard of it."""
        self._held: set[int] = set()
        """What it was told it has."""

    @property
    def is_member(self) -> bool:
        return self.group.members.get(self.member) is self

    def start(self, listener: MembershipListener) -> None:
        self.listener = listener
        self._universe.after(self._delay_us(), self.join)

    def join(self) -> None:
        if self._is_closed or self._link.is_dead or self.fatal is not None or self.is_member:
            return
        if self._cannot_hear():
            self._link.when_mended(self.join)
        elif self.member in self.group.members and not self._is_first:
            self._be_fenced()
        else:
            self._is_first = False
            self.group.join(self)

    async def check_lease(self, partition: int, inbox_offset: int | None) -> Lease:
        if self.fatal is not None:
            return Lease.LOST
        answer: asyncio.Future[Lease] = self._loop.create_future()

        def ask() -> None:
            if not self._cannot_hear():
                lease = self._lease_of(partition, inbox_offset)
                self._after_trip(lambda: self._loop.call_soon(_give, answer, lease))

        self._after_trip(ask)
        try:
            async with asyncio.timeout(LEASE_TIMEOUT_S):
                return await answer
        except TimeoutError:
            return Lease.UNKNOWN

    def commit(self, partition: int, inbox_offset: int) -> None:
        self._after_trip(lambda: self._commit_now(partition, inbox_offset))

    async def checkpoint(self, partition: int) -> int | None:
        """A hint may be old, or of another time altogether: whoever uses it has to see."""
        answer: asyncio.Future[int | None] = self._loop.create_future()
        storm = self._cluster.storm
        hint = None if self._cannot_hear() else self.group.checkpoints.get(partition)
        if hint is not None and storm.strikes(storm.weather.wrong_hint):
            self._cluster.stage.fault(self._link.name, "wrong_hint")
            hint = storm.dice.randrange(2 * hint + 2)
        self._after_trip(lambda: self._loop.call_soon(_give, answer, hint))
        return await answer

    def note_checkpoint(self, partition: int, history_offset: int) -> None:
        def note() -> None:
            if self.is_member and not self._cannot_hear():
                self.group.checkpoints[partition] = history_offset

        self._after_trip(note)

    async def close(self, leave: bool = False) -> None:
        """A static member says nothing when it goes, unless it is to leave."""
        self._is_closed = True
        if leave:
            self.group.remove(self.member, told=False)
        else:
            self.fall_silent()

    # What the coordinator does

    def fall_silent(self) -> None:
        """The coordinator does not hear of this member from now on."""
        self._universe.after(self.session_us, self._expire)

    def _expire(self) -> None:
        if self.is_member and (self._is_closed or self._cannot_hear()):
            self._cluster.stage.fault(self._link.name, "session_expired")
            self.group.remove(self.member, told=False)
            self._is_untold = True

    def heard_again(self) -> None:
        """The silence is over: if its place is gone, it hears of that and joins again."""
        storm = self._cluster.storm
        if not self._is_untold or self._is_closed or self._cannot_hear():
            return
        if storm.strikes(storm.weather.group_forgets):
            self._cluster.stage.fault(self._link.name, "group_forgets")
            return  # until the next time
        self._is_untold = False
        if self.member in self.group.members:
            self._be_fenced()
        else:
            self.tell_lost(())
            delay_us = int(REJOIN_US_MAX * storm.dice.random())
            self._universe.at(self._told_us + delay_us, self.join)

    def lose_session(self, *, told: bool) -> None:
        """The group gives its place away though it lives."""
        if self.is_member:
            self.group.remove(self.member, told=False)
            self._is_untold = True
            if told:
                self.heard_again()

    def _be_fenced(self) -> None:
        """Another process took the place under this name: the client is broken for good."""
        self.fatal = "fenced: another process joined as this member"
        self.tell_lost(())

    def _lease_of(self, partition: int, inbox_offset: int | None) -> Lease:
        storm = self._cluster.storm
        if storm.strikes(storm.weather.lease_unknown):
            self._cluster.stage.fault(self._link.name, "lease_unknown")
            return Lease.UNKNOWN
        if not self.is_member or self.group.owner_of.get(partition) != self.member:
            return Lease.LOST
        self._commit_now(partition, inbox_offset or self.group.committed.get(partition, 0))
        return Lease.HELD

    def _commit_now(self, partition: int, inbox_offset: int) -> None:
        if self.is_member and not self._cannot_hear():
            self.group.committed[partition] = inbox_offset
            commit = (partition, inbox_offset, self._universe.now_us)
            self._cluster.stage.commits.append(commit)

    # What the group tells its members

    def tell_assigned(self, partitions: Collection[int]) -> None:
        wanted = sorted(partitions)

        def tell(listener: MembershipListener) -> None:
            mine = [p for p in wanted if self.group.owner_of.get(p) == self.member]
            if mine and self.is_member:
                self._held.update(mine)
                listener.assigned(mine)

        self._tell("assigned", tell)

    def tell_lost(self, partitions: Collection[int]) -> None:
        """Of whatever it has: the client says so, not the group."""

        def tell(listener: MembershipListener) -> None:
            lost, self._held = sorted(self._held), set()
            listener.lost(lost)

        self._tell("lost", tell)
        if self.fatal is not None:
            self._universe.at(self._told_us, self._end_process)

    def _end_process(self) -> None:
        """A process that was cut off or stood still goes on for a while before it notices."""
        if self._cannot_hear():
            later = self._delay_us()
            self._link.when_mended(lambda: self._universe.after(later, self._end_process))
        else:
            self.on_fatal()

    def tell_revoked(self, partitions: Collection[int]) -> None:
        revoked = sorted(partitions)
        is_given_up = False

        def give_up() -> None:
            nonlocal is_given_up
            if not is_given_up:
                is_given_up = True
                self._after_trip(lambda: self.group.given_up(revoked, self.member))

        def tell(listener: MembershipListener) -> None:
            self._held.difference_update(revoked)
            listener.revoked(revoked, give_up)

        self._universe.after(REVOKE_TIMEOUT_US, give_up)
        self._tell("revoked", tell)

    def _tell(self, what: str, tell: Callable[[MembershipListener], None]) -> None:
        """Callbacks come in order, each some time after the decision."""
        self._told_us = max(self._told_us, self._universe.now_us + self._delay_us())

        def deliver() -> None:
            if self._is_closed or self._link.is_dead:
                return
            if self._cannot_hear():
                self._link.when_mended(deliver)
                return
            self._loop.call_soon(call)

        def call() -> None:
            if self.listener is not None and not self._is_closed:
                tell(self.listener)
                held = sorted(self._held)
                self._cluster.stage.note(self._link.name, "was told: %s, has %s", what, held)

        self._universe.at(self._told_us, deliver)

    def _cannot_hear(self) -> bool:
        return self._link.is_group_cut or self._link.is_frozen or self._link.is_dead

    def _delay_us(self) -> int:
        storm = self._cluster.storm
        return 1_000 + int(storm.weather.group_us_max * storm.dice.random())

    def _after_trip(self, call: Callable[[], object]) -> None:
        self._universe.after(self._cluster.storm.latency_us(), call)


def _give(answer: asyncio.Future[Any], value: object) -> None:
    if not answer.done():
        answer.set_result(value)
