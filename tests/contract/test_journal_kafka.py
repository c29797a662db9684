"""The journal's contract on a real broker, and what only a real client can get wrong."""

from __future__ import annotations

import asyncio
import ctypes
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import confluent_kafka
import pytest
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka import KafkaError as KafkaCode
from confluent_kafka.admin import AdminClient

from stepfold.core.errors import ConfigurationError, KafkaError
from stepfold.journal.appender import KafkaAppender
from stepfold.journal.inbox import EXIT_WATCHDOG, KafkaMembership, group_of
from stepfold.journal.kafka import KafkaJournal
from stepfold.journal.port import Report
from stepfold.journal.settings import appender_config, member_config
from tests.contract.group_contract import Candidate, MembershipContract
from tests.contract.journal_contract import (
    PARTITIONS,
    AppendingContract,
    DescribingContract,
    ReadingContract,
    World,
    numbered,
    on_loop,
    until,
)
from tests.kafka_fixture import free_port

pytestmark = pytest.mark.kafka

REQUEST_TIMEOUT_S = 15.0


class KafkaWorld(World):
    def __init__(self, servers: str, app: str) -> None:
        self.app = app
        self.servers = servers
        self.exits: list[int] = []
        self._journals: list[KafkaJournal] = []

    def journal(self, member: str) -> KafkaJournal:
        journal = KafkaJournal(
            bootstrap_servers=self.servers,
            config={"session.timeout.ms": "6000", "heartbeat.interval.ms": "300"},
            instance_id=member,
            unsafe_dev=True,
            end_process=self.exits.append,
        )
        self._journals.append(journal)
        return journal

    async def delete_records(self, topic: str, partition: int, before_offset: int) -> None:
        admin: Any = AdminClient({"bootstrap.servers": self.servers})
        place = TopicPartition(topic, partition, before_offset)
        deleted = admin.delete_records([place], request_timeout=REQUEST_TIMEOUT_S)
        async with asyncio.timeout(REQUEST_TIMEOUT_S):
            await asyncio.wrap_future(deleted[place])

    async def close(self) -> None:
        await asyncio.gather(*(journal.close() for journal in self._journals))


@pytest.fixture
def world(kafka_bootstrap: str, new_app: Callable[[int], str]) -> KafkaWorld:
    return KafkaWorld(kafka_bootstrap, new_app(PARTITIONS))


def break_client(appender: KafkaAppender) -> None:
    """Put the real client into the state that a sequence out of order leads to.

    librdkafka has a function for it, which the Python binding does not pass on; the
    client's handle is the first field after the head of the Python object.
    """
    folder = Path(confluent_kafka.__file__).parent.with_name("confluent_kafka.libs")
    library = ctypes.CDLL(str(next(folder.glob("librdkafka*"))))
    producer = appender._producer  # pyright: ignore[reportPrivateUsage] - what is to be broken
    head = object.__basicsize__
    handle = ctypes.c_void_p.from_address(id(producer) + head)
    library.rd_kafka_test_fatal_error.argtypes = (ctypes.c_void_p, ctypes.c_int, ctypes.c_char_p)
    library.rd_kafka_test_fatal_error(
        handle, KafkaCode.OUT_OF_ORDER_SEQUENCE_NUMBER, b"made to fail by a test"
    )


class TestAppending(AppendingContract): ...


class TestReading(ReadingContract): ...


class TestMembership(MembershipContract): ...


class TestDescribing(DescribingContract): ...


class TestClients:
    @on_loop
    async def test_more_than_the_client_holds_waits_and_keeps_its_order(self, world: World) -> None:
        assert isinstance(world, KafkaWorld)
        config = appender_config(world.servers, {"queue.buffering.max.messages": "10"})
        appender = KafkaAppender(config, asyncio.get_running_loop())
        reports: list[Report] = []

        for value in numbered(500):
            appender.append(world.history, 0, b"", value, [], reports.append)
        await until(lambda: len(reports) == 500)
        await appender.close()

        assert [report.offset for report in reports] == list(range(500))

    @on_loop
    async def test_a_record_too_large_for_its_topic_is_reported(self, world: World) -> None:
        journal = world.journal("a")
        reports: list[Report] = []

        # Of compressed records, it is the compressed size that brokers look at.
        journal.appender.append(world.history, 0, b"", os.urandom(3_000_000), [], reports.append)
        journal.appender.append(world.history, 0, b"", b"x", [], reports.append)
        await until(lambda: len(reports) == 2)

        assert reports[0].offset is None
        assert reports[0].error
        assert reports[1].offset == 0

    @pytest.mark.parametrize("appends_on", [False, True])
    def test_a_fatal_client_error_reports_all_and_a_new_client_goes_on(
        self, world: KafkaWorld, appends_on: bool
    ) -> None:
        async def claim(_: object, world: World) -> None:
            assert isinstance(world, KafkaWorld)
            loop = asyncio.get_running_loop()
            appender = KafkaAppender(appender_config(world.servers, {}), loop)
            reports: list[Report] = []
            for value in numbered(5):
                appender.append(world.history, 0, b"", value, [], reports.append)
            break_client(appender)
            if appends_on:
                appender.append(world.history, 0, b"", b"5", [], reports.append)
            await until(lambda: len(reports) == 5 + appends_on)

            after: list[Report] = []
            appender.append(world.history, 0, b"", b"after", [], after.append)
            await until(lambda: len(after) == 1)
            await appender.close()

            assert all(report.error and report.offset is None for report in reports)
            assert len(reports) == 5 + appends_on
            assert after[0].error is None
            assert after[0].offset is not None

        on_loop(claim)(self, world)

    def test_closing_without_a_broker_reports_what_is_outstanding(self) -> None:
        async def claim() -> None:
            config = appender_config(f"127.0.0.1:{free_port()}", {})
            appender = KafkaAppender(config, asyncio.get_running_loop())
            reports: list[Report] = []
            appender.append("nowhere.history", 0, b"", b"x", [], reports.append)
            await appender.close()
            await until(lambda: len(reports) == 1)

            assert reports[0].offset is None
            assert "closed" in str(reports[0].error)

        asyncio.run(claim())

    @on_loop
    async def test_an_offset_that_a_tool_has_set_is_no_checkpoint(self, world: World) -> None:
        assert isinstance(world, KafkaWorld)
        tool = Consumer({"bootstrap.servers": world.servers, "group.id": group_of(world.app)})
        tool.commit(offsets=[TopicPartition(world.history, 0, 41)], asynchronous=False)
        tool.close()
        alone = Candidate()
        membership = world.journal("a").membership(world.app)
        membership.start(alone)
        await until(lambda: len(alone.partitions) == PARTITIONS)

        assert await membership.checkpoint(0) is None

    def test_a_member_whose_loop_stands_still_ends_its_process(
        self, kafka_bootstrap: str, new_app: Callable[[int], str]
    ) -> None:
        app = new_app(1)
        exits: list[int] = []
        ended = threading.Event()

        def end_process(code: int) -> None:
            exits.append(code)
            ended.set()

        async def claim() -> None:
            config = member_config(kafka_bootstrap, {}, group=group_of(app), instance_id="a")
            membership = KafkaMembership(
                config,
                f"{app}.inbox",
                asyncio.get_running_loop(),
                end_process=end_process,
                stale_loop_s=1.5,
            )
            candidate = Candidate()
            membership.start(candidate)
            await until(lambda: candidate.partitions == {0})
            exits_while_it_turned = list(exits)
            ended.wait(10.0)  # blocks the loop, which is the subject
            await membership.close()

            assert exits_while_it_turned == []
            assert exits == [EXIT_WATCHDOG]

        asyncio.run(claim())


class TestErrors:
    def test_a_broker_that_is_not_there_is_named(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("stepfold_topics.admin.REQUEST_TIMEOUT_S", 1.0)
        servers = f"127.0.0.1:{free_port()}"

        async def claim() -> None:
            journal = KafkaJournal(
                bootstrap_servers=servers, config={}, instance_id="a", unsafe_dev=True
            )
            try:
                with pytest.raises(KafkaError, match=servers):
                    await journal.topics("app")
            finally:
                await journal.close()

        asyncio.run(claim())

    def test_a_setting_that_safety_rests_on_is_refused(self) -> None:
        with pytest.raises(ConfigurationError, match="acks"):
            appender_config("localhost:9092", {"acks": "1"})
