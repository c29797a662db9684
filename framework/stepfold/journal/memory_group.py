"""The worker group of the memory journal: cooperative and sticky, as Kafka's.

A partition that moves is revoked first and assigned to its new member only after the
old one gave it up, or its deadline passed. A member that is thrown out without being
told goes on believing that it is one; only its lease says otherwise.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Collection, Iterable

from stepfold.journal.port import Lease, MembershipListener

REVOKE_TIMEOUT_S = 10.0


class MemoryMembership:
    """A Membership."""

    def __init__(self, group: MemoryGroup, member: str, loop: asyncio.AbstractEventLoop) -> None:
        self.group = group
        self.member = member
        self.fatal: str | None = None
        self.listener: MembershipListener | None = None
        self._loop = loop
        self._unknown_leases = 0

    def start(self, listener: MembershipListener) -> None:
        self.listener = listener
        self.group.join(self)

    async def check_lease(self, partition: int, inbox_offset: int | None) -> Lease:
        await asyncio.sleep(0)
        if self._unknown_leases > 0:
            self._unknown_leases -= 1
            return Lease.UNKNOWN
        if self.group.members.get(self.member) is not self:
            return Lease.LOST
        if self.group.owner_of.get(partition) != self.member:
            return Lease.LOST
        self.group.committed.setdefault(partition, 0)
        self.commit(partition, inbox_offset or self.group.committed[partition])
        return Lease.HELD

    def commit(self, partition: int, inbox_offset: int) -> None:
        if self.group.members.get(self.member) is self:
            self.group.committed[partition] = inbox_offset

    async def checkpoint(self, partition: int) -> int | None:
        return self.group.checkpoints.get(partition)

    def note_checkpoint(self, partition: int, history_offset: int) -> None:
        if self.group.members.get(self.member) is self:
            self.group.checkpoints[partition] = history_offset

    async def close(self, leave: bool = False) -> None:
        """`leave` makes no difference here: nobody waits for a session to expire."""
        self.group.remove(self.member, told=False)

    def leave_unanswered(self, leases: int) -> None:
        """The next lease checks say UNKNOWN, as during a rebalance."""
        self._unknown_leases = leases

    def tell_assigned(self, partitions: Collection[int]) -> None:
        self._loop.call_soon(self._tell_assigned, sorted(partitions))

    def _tell_assigned(self, partitions: Collection[int]) -> None:
        mine = [p for p in partitions if self.group.owner_of.get(p) == self.member]
        if mine and self.listener is not None and self.group.members.get(self.member) is self:
            self.listener.assigned(mine)

    def tell_lost(self, partitions: Collection[int]) -> None:
        if self.listener is not None and partitions:
            self._loop.call_soon(self.listener.lost, sorted(partitions))

    def tell_revoked(self, partitions: Collection[int]) -> None:
        def give_up() -> None:
            deadline.cancel()
            self.group.given_up(partitions, self.member)

        deadline = self._loop.call_later(REVOKE_TIMEOUT_S, give_up)
        if self.listener is None:
            give_up()
        else:
            self._loop.call_soon(self.listener.revoked, sorted(partitions), give_up)


class MemoryGroup:
    def __init__(self, partitions: int) -> None:
        self.members: dict[str, MemoryMembership] = {}
        self.owner_of: dict[int, str] = {}
        self.committed: dict[int, int] = {}
        self.checkpoints: dict[int, int] = {}
        self._partitions = partitions
        self._moving: set[int] = set()
        self._pinned: dict[int, str] = {}

    def join(self, membership: MemoryMembership) -> None:
        before = self.members.get(membership.member)
        if before is not None and before is not membership:
            # A static member that comes back takes over from its former self, which is fenced.
            before.fatal = "fenced: another process joined as this member"
            before.tell_lost(self._owned_by(membership.member))
            self._free(membership.member)
        self.members[membership.member] = membership
        self._rebalance()

    def remove(self, member: str, *, told: bool) -> None:
        membership = self.members.pop(member, None)
        if membership is None:
            return
        if told:
            membership.tell_lost(self._owned_by(member))
        self._free(member)
        self._rebalance()

    def pin(self, partition: int, member: str) -> None:
        """Assign this partition to this member from now on, as long as it is one."""
        self._pinned[partition] = member
        self._rebalance()

    def given_up(self, partitions: Iterable[int], member: str) -> None:
        for partition in partitions:
            if self.owner_of.get(partition) == member and partition in self._moving:
                del self.owner_of[partition]
                self._moving.discard(partition)
        self._rebalance()

    def _owned_by(self, member: str) -> list[int]:
        return [partition for partition, owner in self.owner_of.items() if owner == member]

    def _free(self, member: str) -> None:
        for partition in self._owned_by(member):
            del self.owner_of[partition]
            self._moving.discard(partition)

    def _rebalance(self) -> None:
        if not self.members:
            return
        leaving: dict[str, list[int]] = defaultdict(list)
        coming: dict[str, list[int]] = defaultdict(list)
        for partition, member in self._target().items():
            owner = self.owner_of.get(partition)
            if owner is None:
                self.owner_of[partition] = member
                coming[member].append(partition)
            elif owner != member and partition not in self._moving:
                self._moving.add(partition)
                leaving[owner].append(partition)
        for member, partitions in leaving.items():
            self.members[member].tell_revoked(partitions)
        for member, partitions in coming.items():
            self.members[member].tell_assigned(partitions)

    def _target(self) -> dict[int, str]:
        """Who should have what: balanced, and as it is wherever that is balanced already."""
        least, spare = divmod(self._partitions, len(self.members))
        room = dict.fromkeys(self.members, least)
        target: dict[int, str] = {}
        for partition, member in self._pinned.items():
            if member in self.members:
                target[partition] = member
                room[member] -= 1
        for partition in range(self._partitions):
            owner = self.owner_of.get(partition, "")
            if partition in target or partition in self._moving or owner not in room:
                continue
            if room[owner] == 0 and spare > 0:
                room[owner] += 1
                spare -= 1
            if room[owner] > 0:
                target[partition] = owner
                room[owner] -= 1
        for partition in range(self._partitions):
            if partition not in target:
                member = max(room, key=room.__getitem__)
                target[partition] = member
                room[member] -= 1
        return target
