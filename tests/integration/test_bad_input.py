"""Bad input and a Kafka that changes under way, where only a real one can show what happens.

Each scene has two partitions: what goes wrong in one must leave the other alone.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import threading
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewPartitions  # pyright: ignore[reportPrivateImportUsage] - re-exported without saying so

from stepfold import App, Client, Event, event, step
from stepfold.core.routing import partition_for
from stepfold.engine import topics_watch
from stepfold.engine.shard_states import ShardState
from stepfold.engine.watchdog import LoopWatch
from stepfold.engine.worker import Worker
from stepfold.journal.kafka import KafkaJournal
from stepfold.journal.port import LogRecord, ShardId
from stepfold.journal.scan import KafkaScan
from stepfold_topics.admin import create_topics, describe_topics, set_config
from stepfold_topics.catalog import topics_of
from tests.log_checks import read_story
from tests.raw_producer import produce_with_header

TIMEOUT_S = 20.0
LOOK_S = 0.05
PARTITIONS = 2
MEBIBYTE = 1024 * 1024


@dataclass
class World:
    app: App
    client: Client
    worker: Worker
    servers: str
    admin: Any  # the client's stubs leave the type of its futures open

    def topic(self, suffix: str) -> str:
        return f"{self.app.name}.{suffix}"

    def state(self, partition: int) -> ShardState | None:
        return self.worker.states().get(ShardId(self.app.name, partition))

    def fault(self, partition: int) -> str:
        return self.worker.faults().get(ShardId(self.app.name, partition), "")

    async def double(self, number: int, partition: int = 0) -> int:
        """The result of a healthy run in this partition."""
        keys = (str(number) for number in itertools.count())
        key = next(key for key in keys if partition_for(key, PARTITIONS) == partition)
        sent: Event[int] = Event("double", data=number, key=key)
        (run,) = await (await self.client.send(self.app.name, sent)).runs(TIMEOUT_S)
        result: int = await run.result(TIMEOUT_S)
        return result

    def produce(self, *values: bytes, partition: int = 0) -> None:
        config = {"bootstrap.servers": self.servers, "message.max.bytes": 2 * MEBIBYTE}
        producer = Producer(config)
        for value in values:
            producer.produce(self.topic("inbox"), value, partition=partition)
        assert producer.flush(TIMEOUT_S) == 0

    async def until(self, is_so: Callable[[], object]) -> None:
        async with asyncio.timeout(TIMEOUT_S):
            while not is_so():  # noqa: ASYNC110 - what it waits for tells nobody
                await asyncio.sleep(LOOK_S)


Scene = Callable[[World], Awaitable[None]]
Play = Callable[[Scene], None]


@pytest.fixture
def play(kafka_bootstrap: str, new_app: Callable[[int], str]) -> Play:
    def run(scene: Scene) -> None:
        app = App(new_app(PARTITIONS))

        @app.workflow(on=event("double"))
        async def double(number: int) -> int:  # pyright: ignore[reportUnusedFunction]
            return 2 * await step.run("same", same, number)

        @app.workflow
        async def blocks(seconds: float) -> str:  # pyright: ignore[reportUnusedFunction]
            return await step.run("block", block, seconds)

        async def main() -> None:
            async with world(kafka_bootstrap, app) as there, asyncio.timeout(2 * TIMEOUT_S):
                await there.until(lambda: len(there.worker.states()) == PARTITIONS)
                await scene(there)

        asyncio.run(main())

    return run


async def same(number: int) -> int:
    return number


async def block(seconds: float) -> str:
    threading.Event().wait(seconds)  # the mistake that is to be seen: it blocks the loop
    return "over"


@asynccontextmanager
async def world(servers: str, app: App) -> AsyncGenerator[World]:
    journal = KafkaJournal(
        bootstrap_servers=servers, config={}, instance_id=app.name, unsafe_dev=True
    )
    worker = Worker(journal, [app], worker_id="test")
    watch = LoopWatch(asyncio.get_running_loop())
    stopping = asyncio.Event()
    working = asyncio.create_task(worker.run(ready=lambda: None, stopping=stopping))
    try:
        async with Client(servers) as client:
            admin = AdminClient({"bootstrap.servers": servers, "log_level": 0})
            yield World(app, client, worker, servers, admin)
    finally:
        stopping.set()
        await working
        watch.close()


def dlq_of(there: World) -> list[LogRecord]:
    scan, topic = KafkaScan(there.servers, {}), there.topic("inbox.dlq")
    extents = {partition: scan.extent(topic, partition) for partition in range(PARTITIONS)}
    return [
        record
        for partition, extent in extents.items()
        for batch in scan.read(topic, partition, extent.first, extent.end, with_headers=True)
        for record in batch
    ]


def test_whatever_an_inbox_took_fits_into_its_dlq(play: Play) -> None:
    """Kafka takes a mebibyte, and a client of Java's defaults sends as much."""

    async def scene(there: World) -> None:
        largest = b"x" * (MEBIBYTE - 200)
        there.produce(b"x" * 999_000, largest)

        assert await there.double(4) == 8
        assert [len(record.value or b"") for record in dlq_of(there)] == [999_000, len(largest)]

    play(scene)


def test_header_whose_name_is_no_text_stops_nobody(play: Play) -> None:
    async def scene(there: World) -> None:
        for suffix, value in (("inbox", b'{"name": "double", "data": 1}'), ("control", b"")):
            topic = there.topic(suffix)
            produce_with_header(there.servers, topic, 0, value, b"na\xff\xfeme", b"text")

        assert await there.double(4) == 8
        assert await there.double(5, partition=1) == 10
        (copy,) = [record for record in dlq_of(there) if record.value]
        headers = dict(copy.headers)
        assert b"name of a header is not UTF-8" in headers["dlq-exception-message"]

    play(scene)


def test_inbox_that_is_made_again_faults_its_shards(
    play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(topics_watch, "CHECK_INTERVAL_S", 0.2)

    async def scene(there: World) -> None:
        assert await there.double(4) == 8
        await asyncio.to_thread(make_again, there, "inbox")
        await there.until(lambda: there.state(0) is there.state(1) is ShardState.FAULTED)

        assert f"topic {there.topic('inbox')} is not the one" in there.fault(0)
        assert "re-created" in there.fault(1)

    play(scene)


def test_partitions_that_are_added_fault_the_shards_and_nothing_is_keyed_anew(
    play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(topics_watch, "CHECK_INTERVAL_S", 0.2)

    async def scene(there: World) -> None:
        assert await there.double(4) == 8
        for suffix in ("inbox", "control", "history"):
            more = NewPartitions(there.topic(suffix), PARTITIONS + 1)
            there.admin.create_partitions([more])[there.topic(suffix)].result(TIMEOUT_S)
        await there.until(lambda: there.state(0) is there.state(1) is ShardState.FAULTED)

        assert "2 partitions; now" in there.fault(0)

    play(scene)


def test_retention_that_is_set_on_a_history_is_told_and_work_goes_on(
    play: Play, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(topics_watch, "CHECK_INTERVAL_S", 0.2)

    def told() -> list[str]:
        records = [r for r in caplog.records if r.getMessage() == "topics became unsafe"]
        return [str(record.__dict__["reason"]) for record in records]

    async def scene(there: World) -> None:
        assert await there.double(4) == 8
        set_config(there.admin, there.topic("history"), {"retention.ms": "604800000"})
        await there.until(told)

        assert "retention.ms" in told()[0]
        assert "topics apply" in told()[0]
        assert await there.double(5) == 10

    play(scene)


def test_step_that_blocks_the_loop_is_named_and_the_shards_stay(
    play: Play, caplog: pytest.LogCaptureFixture
) -> None:
    async def scene(there: World) -> None:
        handle = await there.client.start(there.app.name, "blocks", 3.0)

        assert await handle.result(TIMEOUT_S) == "over"
        assert await there.double(5, partition=1) == 10
        (warning,) = [r for r in caplog.records if r.getMessage() == "step blocks the event loop"]
        assert warning.__dict__["step"] == f"block of run {handle.id}"
        assert "in block" in warning.__dict__["stack"], "the frame of the step itself"
        story = await asyncio.to_thread(read_story, there.servers, there.app.name, PARTITIONS)
        assert story.claims == PARTITIONS, "the session outlived the block"

    with caplog.at_level(logging.WARNING):
        play(scene)


def make_again(there: World, suffix: str) -> None:
    """Delete the topic and create it anew; Kafka takes a moment for the first."""
    plan = next(
        plan
        for plan in topics_of(there.app.name, partitions=PARTITIONS, replication=1)
        if plan.name == there.topic(suffix)
    )
    there.admin.delete_topics([plan.name])[plan.name].result(TIMEOUT_S)
    deadline = time.monotonic() + TIMEOUT_S
    while plan.name in describe_topics(there.admin, [plan.name]):
        assert time.monotonic() < deadline, f"{plan.name} is not gone"
        threading.Event().wait(LOOK_S)
    create_topics(there.admin, [plan])
