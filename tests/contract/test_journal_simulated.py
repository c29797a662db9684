"""The journal's contract on the simulated log, when nothing goes wrong with it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Coroutine
from typing import Any

import pytest

from tests.contract.group_contract import MembershipContract
from tests.contract.journal_contract import (
    PARTITIONS,
    AppendingContract,
    DescribingContract,
    ReadingContract,
    World,
)
from tests.simulation.cluster import SimCluster
from tests.simulation.journal import SimJournal
from tests.simulation.link import Link
from tests.simulation.stage import Stage
from tests.simulation.universe import Universe, new_loop
from tests.simulation.weather import Storm


class SimulatedWorld(World):
    def __init__(self) -> None:
        self.app = "app"
        universe = Universe()
        self._loop = new_loop(universe, "test")
        storm = Storm(random.Random(1))
        self._cluster = SimCluster(universe, Stage(universe, tracing=False), storm)
        self._cluster.create_app(self.app, PARTITIONS, random.Random(2))
        self._journals: list[SimJournal] = []

    def journal(self, member: str) -> SimJournal:
        name = f"{member}.{len(self._journals)}"
        journal = SimJournal(self._cluster, Link(name), member, asyncio.get_running_loop())
        self._journals.append(journal)
        return journal

    async def delete_records(self, topic: str, partition: int, before_offset: int) -> None:
        log = self._cluster.log(topic, partition)
        assert log is not None
        self._cluster.delete_records(log, before_offset)

    async def close(self) -> None:
        for journal in self._journals:
            await journal.close()

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        self._loop.run_until_complete(work)


@pytest.fixture
def world() -> SimulatedWorld:
    return SimulatedWorld()


class TestAppending(AppendingContract): ...


class TestReading(ReadingContract): ...


class TestMembership(MembershipContract): ...


class TestDescribing(DescribingContract): ...
