"""A worker that may not, on a broker that asks for a password and looks at rights.

The broker has two doors: an open one for whoever sets the scene, and one for the worker.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import confluent_kafka.admin
import pytest
from confluent_kafka import KafkaException, Producer
from confluent_kafka.admin import AdminClient

import stepfold_topics.admin
from stepfold import App, Client, event
from stepfold.core.errors import KafkaError
from stepfold.engine import intake, owner
from stepfold.engine.shard_states import ShardState
from stepfold.engine.worker import Worker
from stepfold.journal.kafka import KafkaJournal
from stepfold.local import artifacts
from stepfold.local.broker import BrokerPlan, format_storage, launch, write_files
from stepfold_topics.catalog import topics_of
from stepfold_topics.provision import apply
from tests.kafka_fixture import free_port

_kafka: Any = confluent_kafka.admin  # its stubs do not export these names

START_TIMEOUT_S = 60.0
TIMEOUT_S = 20.0
LOOK_S = 0.05
CLUSTER_ID = "4L6g3nShT-eMCtK--X86sw"
CREDENTIALS = {
    "security.protocol": "SASL_PLAINTEXT",
    "sasl.mechanism": "PLAIN",
    "sasl.username": "worker",
    "sasl.password": "secret",
}
GUARDED = """
listeners=PLAINTEXT://127.0.0.1:{open},SASL_PLAINTEXT://127.0.0.1:{guarded},CONTROLLER://127.0.0.1:{inner}
advertised.listeners=PLAINTEXT://127.0.0.1:{open},SASL_PLAINTEXT://127.0.0.1:{guarded}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,SASL_PLAINTEXT:SASL_PLAINTEXT,CONTROLLER:PLAINTEXT
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
allow.everyone.if.no.acl.found=false
super.users=User:ANONYMOUS
sasl.enabled.mechanisms=PLAIN
listener.name.sasl_plaintext.plain.sasl.jaas.config=\\
  org.apache.kafka.common.security.plain.PlainLoginModule required user_worker="secret";
"""

Right: TypeAlias = tuple[str, str]
"""A topic (`group:` and the name for a group), and an operation, as Kafka spells it."""


@dataclass(frozen=True)
class Doors:
    open: str
    guarded: str
    admin: Any

    def new_app(self, name: str, *, rights: bool = True) -> str:
        apply(self.admin, topics_of(name, partitions=1, replication=1))
        if rights:
            self.give(*rights_of(name))
        return name

    def give(self, *rights: Right) -> None:
        asked = self.admin.create_acls([_kafka.AclBinding(*_acl(right)) for right in rights])
        for future in asked.values():
            future.result(TIMEOUT_S)

    def take(self, *rights: Right) -> None:
        asked = self.admin.delete_acls([_kafka.AclBindingFilter(*_acl(right)) for right in rights])
        for future in asked.values():
            future.result(TIMEOUT_S)


def rights_of(app: str) -> Iterator[Right]:
    """What a worker needs, and no more; docs/errors.md lists the same."""
    for suffix in ("inbox", "control", "history"):
        for operation in ("READ", "WRITE", "DESCRIBE", "DESCRIBE_CONFIGS"):
            yield f"{app}.{suffix}", operation
    for operation in ("WRITE", "DESCRIBE", "DESCRIBE_CONFIGS"):
        yield f"{app}.inbox.dlq", operation
    yield f"group:stepfold.{app}", "READ"


def _acl(right: Right) -> tuple[Any, ...]:
    name, operation = right
    kind = _kafka.ResourceType.GROUP if name.startswith("group:") else _kafka.ResourceType.TOPIC
    return (
        kind,
        name.removeprefix("group:"),
        _kafka.ResourcePatternType.LITERAL,
        "User:worker",
        "*",
        _kafka.AclOperation[operation],
        _kafka.AclPermissionType.ALLOW,
    )


@pytest.fixture(scope="module")
def doors(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Doors]:
    ports = {name: free_port() for name in ("open", "guarded", "inner")}
    plan = BrokerPlan(
        node=1,
        port=ports["open"],
        controller_port=ports["inner"],
        folder=tmp_path_factory.mktemp("guarded") / "broker-1",
        voters=[(1, ports["inner"])],
    )
    java, jars = artifacts.java(), artifacts.jars(lambda _: None)
    write_files(plan)
    with plan.properties.open("a") as file:
        file.write(GUARDED.format(**ports))  # what comes last counts
    format_storage(plan, java, jars, CLUSTER_ID)
    broker = launch(plan, java, jars, ())
    try:
        yield _open_doors(ports, plan.log)
    finally:
        broker.terminate()
        broker.wait(START_TIMEOUT_S)


def _open_doors(ports: dict[str, int], log: Path) -> Doors:
    admin = AdminClient({"bootstrap.servers": f"127.0.0.1:{ports['open']}", "log_level": 0})
    deadline = time.monotonic() + START_TIMEOUT_S
    while True:
        try:
            admin.list_topics(timeout=1.0)
        except KafkaException:
            assert time.monotonic() < deadline, log.read_text()[-4_000:]
        else:
            return Doors(f"127.0.0.1:{ports['open']}", f"127.0.0.1:{ports['guarded']}", admin)


@dataclass
class World:
    doors: Doors
    name: str
    client: Client
    worker: Worker

    @property
    def state(self) -> ShardState | None:
        return next(iter(self.worker.states().values()), None)

    @property
    def faults(self) -> str:
        return " ".join(self.worker.faults().values())

    async def until(self, is_so: Any) -> None:
        async with asyncio.timeout(TIMEOUT_S):
            while not is_so():  # noqa: ASYNC110 - what it waits for tells nobody
                await asyncio.sleep(LOOK_S)


@asynccontextmanager
async def world(doors: Doors, name: str) -> AsyncGenerator[World]:
    app = App(doors.new_app(name))

    @app.workflow(on=event("count"))
    async def counts(number: int) -> int:  # pyright: ignore[reportUnusedFunction]
        return number + 1

    journal = KafkaJournal(
        bootstrap_servers=doors.guarded, config=CREDENTIALS, instance_id=name, unsafe_dev=True
    )
    await until_described(journal, name)
    worker = Worker(journal, [app], worker_id="test")
    stopping = asyncio.Event()
    working = asyncio.create_task(worker.run(ready=lambda: None, stopping=stopping))
    try:
        async with Client(doors.open) as client:
            there = World(doors, name, client, worker)
            first = await client.start(name, "counts", 1)
            assert await first.result(TIMEOUT_S) == 2
            yield there
            last = await client.start(name, "counts", 5)
            assert await last.result(TIMEOUT_S) == 6
    finally:
        stopping.set()
        await working


async def until_described(journal: KafkaJournal, app: str) -> None:
    """Rights that were given take a moment to count."""
    async with asyncio.timeout(TIMEOUT_S):
        while True:
            try:
                await journal.topics(app)
            except KafkaError:
                await asyncio.sleep(LOOK_S)
            else:
                return


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({**CREDENTIALS, "sasl.password": "wrong"}, "Invalid username or password"),
        (CREDENTIALS, "authorization failed"),
    ],
)
def test_worker_that_may_not_look_at_the_topics_is_refused_with_the_reason(
    config: dict[str, str], said: str, doors: Doors, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stepfold_topics.admin, "REQUEST_TIMEOUT_S", 1.5)

    async def describe() -> None:
        journal = KafkaJournal(
            bootstrap_servers=doors.guarded, config=config, instance_id="x", unsafe_dev=True
        )
        try:
            await journal.topics(doors.new_app("nobodys", rights=False))
        finally:
            await journal.close()

    with pytest.raises(KafkaError, match="this user may describe topics") as refused:
        asyncio.run(describe())

    assert said in str(refused.value)


@pytest.mark.parametrize("suffix", ["inbox", "control"])
def test_right_to_read_that_is_taken_faults_the_shard_until_it_is_given_back(
    suffix: str, doors: Doors, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(owner, "UNREADABLE_RETRY_S", 0.2)
    right = (f"reads-{suffix}.{suffix}", "READ")

    async def scene() -> None:
        async with world(doors, f"reads-{suffix}") as there:
            doors.take(right)
            await there.until(lambda: "authorization failed" in there.faults)
            assert right[0] in there.faults
            doors.give(right)
            await there.until(lambda: there.state is ShardState.LEADING)

    asyncio.run(scene())


def test_right_to_write_that_is_taken_holds_runs_back_and_loses_none(
    doors: Doors, caplog: pytest.LogCaptureFixture
) -> None:
    right = ("writes.history", "WRITE")

    def refused() -> bool:
        told = [r for r in caplog.records if r.getMessage() == "claim is not acknowledged"]
        return any("authorization failed" in str(r.__dict__["reason"]) for r in told)

    async def scene() -> None:
        async with world(doors, "writes") as there:
            doors.take(right)
            held = await there.client.start("writes", "counts", 3)
            await there.until(refused)
            doors.give(right)

            assert await held.result(TIMEOUT_S) == 4

    with caplog.at_level(logging.WARNING):
        asyncio.run(scene())


def test_dlq_that_may_not_be_written_holds_its_inbox_back_until_it_may(
    doors: Doors, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(intake, "DLQ_RETRY_MS", 100)
    right = ("copies.inbox.dlq", "WRITE")

    def refused() -> list[str]:
        told = [r for r in caplog.records if r.getMessage() == "the dlq takes no copy"]
        return [str(r.__dict__["reason"]) for r in told]

    async def scene() -> None:
        async with world(doors, "copies") as there:
            doors.take(right)
            producer = Producer({"bootstrap.servers": doors.open})
            producer.produce("copies.inbox", b"nonsense", partition=0)
            producer.flush(TIMEOUT_S)
            await there.until(refused)
            assert "authorization failed" in refused()[0]
            doors.give(right)

    with caplog.at_level(logging.WARNING):
        asyncio.run(scene())
