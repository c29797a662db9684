"""What a durable step costs, beside what one append to the same Kafka costs.

Machines are noisy and differ, so each figure comes with its floor, measured in the same
run: one record of a step's size, appended with acks=all by the Kafka client alone. The
worker is a process of its own, as in production. Latency is told by the steps
themselves, throughput by the log: broker time from the first trigger to the last end.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import platform
import statistics
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from typing import Any

from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from stepfold.bench.agent import Work, chain
from stepfold.client.client import Client
from stepfold.core import events as e
from stepfold.core.errors import KafkaError
from stepfold.core.ids import Epoch, run_id_of
from stepfold.engine.supervisor import Supervisor
from stepfold.journal.codec import encode_event, event_headers
from stepfold.journal.settings import admin_config, reader_config
from stepfold_topics.catalog import topics_of
from stepfold_topics.provision import apply

APP = "bench"
FLOOR_TOPIC = "bench.floor"
TARGET = "stepfold.bench.agent:app"
PARTITIONS = 8
LATENCY_STEPS = 100
LATENCY_RUNS = 5
THROUGHPUT_RUNS = 1_000
THROUGHPUT_STEPS = 10
THROUGHPUT_ROUNDS = 3
EVENTS_PER_STEP = 2
EVENTS_PER_RUN = 2
FLOOR_APPENDS = 300
FLOOR_WARM_UP = 50
PIPELINED_APPENDS = 20_000
WAIT_S = 120.0
LOOK_S = 0.1
UNWATCHED_S = 1.0
"""A run of 100 steps is left alone for so long: a reader would compete with it for the cores."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """Milliseconds; ratio: a step's median to an append's."""

    step_median_ms: float
    step_p99_ms: float
    append_median_ms: float
    append_p99_ms: float
    ratio: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Throughput:
    """Per second; the floor is of appends, of which a step needs two."""

    steps_per_s: float
    rounds: tuple[float, ...]
    appends_per_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    latency: Latency
    throughput: Throughput
    cores: int
    python: str
    platform: str

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


async def measure(
    servers: str, kafka_config: dict[str, str], say: Callable[[str], None]
) -> Figures:
    await asyncio.to_thread(_make_topics, servers, kafka_config)
    floor = _Floor(servers, kafka_config)
    async with _worker(servers, kafka_config), Client(servers, config=kafka_config) as client:
        say("warming up")
        await (await client.start(chain, Work(steps=LATENCY_STEPS))).result(WAIT_S)
        latency = await _latency(client, floor, say)
        throughput = await _throughput(servers, kafka_config, floor, say)
    return Figures(
        latency=latency,
        throughput=throughput,
        cores=os.cpu_count() or 1,
        python=platform.python_version(),
        platform=platform.platform(terse=True),
    )


@asynccontextmanager
async def _worker(servers: str, config: dict[str, str]) -> AsyncGenerator[None]:
    supervisor = Supervisor(
        [TARGET], bootstrap_servers=servers, kafka_config=config, name="bench", unsafe_dev=True
    )
    working = asyncio.create_task(supervisor.run())
    try:
        yield
    finally:
        supervisor.stop()
        await working


async def _latency(client: Client, floor: _Floor, say: Callable[[str], None]) -> Latency:
    say(f"latency: {LATENCY_RUNS} runs of {LATENCY_STEPS} steps, one after the other")
    steps: list[float] = []
    appends: list[float] = []
    for _ in range(LATENCY_RUNS):
        appends += await asyncio.to_thread(floor.one_by_one)
        handle = await client.start(chain, Work(steps=LATENCY_STEPS))
        await asyncio.sleep(UNWATCHED_S)
        executed_at = await handle.result(WAIT_S)
        steps += [(later - earlier) / 1e6 for earlier, later in itertools.pairwise(executed_at)]
    step_median, append_median = statistics.median(steps), statistics.median(appends)
    return Latency(
        step_median_ms=step_median,
        step_p99_ms=_p99(steps),
        append_median_ms=append_median,
        append_p99_ms=_p99(appends),
        ratio=step_median / append_median,
    )


async def _throughput(
    servers: str, config: dict[str, str], floor: _Floor, say: Callable[[str], None]
) -> Throughput:
    say(
        f"throughput: {THROUGHPUT_ROUNDS} rounds of {THROUGHPUT_RUNS} runs "
        f"of {THROUGHPUT_STEPS} steps"
    )
    appends_per_s = await asyncio.to_thread(floor.pipelined)
    rounds = [await asyncio.to_thread(_round, servers, config) for _ in range(THROUGHPUT_ROUNDS)]
    return Throughput(
        steps_per_s=statistics.median(rounds),
        rounds=tuple(rounds),
        appends_per_s=appends_per_s,
    )


def _round(servers: str, config: dict[str, str]) -> float:
    """Steps per second of one batch of runs, by the timestamps in the log."""
    history = f"{APP}.history"
    consumer = Consumer({**reader_config(servers, config), "enable.partition.eof": False})
    try:
        before = _ends(consumer, history)
        begun_ms = time.time() * 1_000
        _produce_triggers(servers, config)
        events = THROUGHPUT_RUNS * (THROUGHPUT_STEPS * EVENTS_PER_STEP + EVENTS_PER_RUN)
        deadline = time.monotonic() + WAIT_S
        while sum(_ends(consumer, history)) - sum(before) < events:
            if time.monotonic() > deadline:
                raise KafkaError(f"the runs did not end within {WAIT_S:.0f} s")
            time.sleep(LOOK_S)
        ended_ms = _last_timestamp(consumer, history, before)
    finally:
        consumer.close()
    return THROUGHPUT_RUNS * THROUGHPUT_STEPS / (ended_ms - begun_ms) * 1_000


def _produce_triggers(servers: str, config: dict[str, str]) -> None:
    producer = Producer({**config, "bootstrap.servers": servers, "acks": "all", "linger.ms": 0})
    value = b'{"name": "bench/go", "data": {"steps": %d}}' % THROUGHPUT_STEPS
    for number in range(THROUGHPUT_RUNS):
        producer.produce(f"{APP}.inbox", value, partition=number % PARTITIONS)
    if producer.flush(WAIT_S):
        raise KafkaError(f"Kafka at {servers} did not take the triggers within {WAIT_S:.0f} s")


def _ends(consumer: Consumer, topic: str) -> list[int]:
    places = [TopicPartition(topic, partition) for partition in range(PARTITIONS)]
    return [consumer.get_watermark_offsets(place, timeout=WAIT_S)[1] for place in places]


def _last_timestamp(consumer: Consumer, topic: str, before: list[int]) -> float:
    """Broker time of the last event that the round wrote."""
    ends = _ends(consumer, topic)
    latest = 0
    for partition, (first, end) in enumerate(zip(before, ends, strict=True)):
        if end > first:
            consumer.assign([TopicPartition(topic, partition, end - 1)])
            message = consumer.poll(WAIT_S)
            if message is None or message.error() is not None:
                raise KafkaError(f"the end of {topic}/{partition} could not be read")
            latest = max(latest, message.timestamp()[1])
    return latest


class _Floor:
    """Appends of a record like a step's, by the Kafka client alone."""

    def __init__(self, servers: str, config: dict[str, str]) -> None:
        self._producer = Producer(
            {
                **config,
                "bootstrap.servers": servers,
                "acks": "all",
                "enable.idempotence": True,
                "linger.ms": 0,
                "queue.buffering.max.messages": 2 * PIPELINED_APPENDS,
            }
        )
        event = e.StepCompleted(
            run_id=run_id_of(0, "00000", 0),
            step="tick#2",
            attempt=1,
            payload=str(time.perf_counter_ns()).encode(),
            payload_encoding="json",
            key_id="",
            took_ms=0,
        )
        epoch = Epoch(1, 1)
        self._value = encode_event(event, epoch=epoch, seq=1, at=time.time_ns() // 1_000_000)
        self._headers: list[tuple[str, str | bytes | None]] = [*event_headers(event, epoch, 1)]
        self._key = event.run_id.encode()
        self._acked = 0

    def one_by_one(self) -> list[float]:
        """Milliseconds of each append, the next only after the acknowledgement."""
        took: list[float] = []
        for _ in range(FLOOR_WARM_UP + FLOOR_APPENDS):
            begun = time.perf_counter_ns()
            acked_before = self._acked
            self._append()
            while self._acked == acked_before:
                self._producer.poll(1.0)
            took.append((time.perf_counter_ns() - begun) / 1e6)
        return took[FLOOR_WARM_UP:]

    def pipelined(self) -> float:
        """Appends per second with all of them under way at once."""
        begun = time.perf_counter()
        for _ in range(PIPELINED_APPENDS):
            self._append()
            self._producer.poll(0)
        self._producer.flush(WAIT_S)
        return PIPELINED_APPENDS / (time.perf_counter() - begun)

    def _append(self) -> None:
        self._producer.produce(
            FLOOR_TOPIC,
            value=self._value,
            key=self._key,
            partition=0,
            headers=self._headers,
            on_delivery=self._note_acked,
        )

    def _note_acked(self, error: object, message: object) -> None:
        self._acked += 1


def _make_topics(servers: str, config: dict[str, str]) -> None:
    admin = AdminClient(admin_config(servers, config))
    brokers = len(admin.list_topics(timeout=WAIT_S).brokers)
    replication = min(3, brokers)
    apply(admin, topics_of(APP, partitions=PARTITIONS, replication=replication))
    if FLOOR_TOPIC not in admin.list_topics(timeout=WAIT_S).topics:
        floor = NewTopic(FLOOR_TOPIC, 1, replication)
        untyped: Any = admin
        for created in untyped.create_topics([floor]).values():
            created.result(WAIT_S)


def _p99(values: list[float]) -> float:
    return statistics.quantiles(values, n=100)[98]
