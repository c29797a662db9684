"""The log as one simulated process sees it."""

from __future__ import annotations

import asyncio

from stepfold.journal.port import AppTopics
from tests.simulation.appender import SimAppender
from tests.simulation.cluster import SimCluster
from tests.simulation.link import Link
from tests.simulation.membership import SimMembership
from tests.simulation.reader import SimReader


class SimJournal:
    """A Journal."""

    def __init__(
        self, cluster: SimCluster, link: Link, member: str, loop: asyncio.AbstractEventLoop
    ) -> None:
        self.cluster = cluster
        self.link = link
        self.member = member
        self.appender = SimAppender(cluster, link, loop)
        self.reader = SimReader(cluster, link, loop)
        self.memberships: list[SimMembership] = []
        self._loop = loop

    def membership(self, app: str) -> SimMembership:
        group = self.cluster.group(app)
        membership = SimMembership(self.cluster, group, self.link, self.member, self._loop)
        self.memberships.append(membership)
        return membership

    async def topics(self, app: str) -> AppTopics:
        return self.cluster.topics(app)

    async def close(self) -> None:
        for membership in self.memberships:
            await membership.close()
        self.reader.close_all()

    # What happens to the process

    def die(self) -> None:
        self.link.is_dead = True
        self.appender.die()
        self.reader.close_all()
        for membership in self.memberships:
            membership.fall_silent()

    def freeze(self) -> None:
        self.link.is_frozen = True
        self.appender.freeze()
        for membership in self.memberships:
            membership.fall_silent()

    def thaw(self) -> None:
        self.link.is_frozen = False
        self._mended()

    def cut(self, *, partitions: bool, group: bool) -> None:
        self.link.is_cut = self.link.is_cut or partitions
        self.link.is_group_cut = self.link.is_group_cut or group
        if group:
            for membership in self.memberships:
                membership.fall_silent()

    def mend(self) -> None:
        self.link.is_cut = self.link.is_group_cut = False
        self._mended()

    def _mended(self) -> None:
        self.link.mended()
        for membership in self.memberships:
            membership.heard_again()
