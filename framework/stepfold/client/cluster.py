"""A client's connections to Kafka: what topics there are, and appending to them.

Nothing here blocks the event loop: librdkafka answers on threads of its own, and what
it can only do synchronously runs in a thread. One producer is polled by one thread as
long as the client is open; that thread also hears of broken connections, so that an
error can say why nothing answered.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future as ThreadFuture
from typing import Any, NamedTuple, TypeVar, cast

from confluent_kafka import Consumer, KafkaException, Producer, TopicCollection, TopicPartition
from confluent_kafka import KafkaError as KafkaCode
from confluent_kafka.admin import (
    AdminClient,
    OffsetSpec,  # pyright: ignore[reportPrivateImportUsage] - documented there
)

from stepfold.client.errors import MISSING, code_of, kafka_error, no_app, unreachable
from stepfold.core.errors import NotFoundError
from stepfold.core.ids import short_topic_id
from stepfold.journal.port import TopicFacts

Answer = TypeVar("Answer")

REQUEST_TIMEOUT_S = 10.0
"""For questions to the cluster that carry no timeout of the caller."""
DELIVERY_TIMEOUT_MS = 30_000
"""How long the Kafka client goes on trying to deliver; a caller may stop waiting before."""
POLL_S = 0.2
QUEUE_FULL_PAUSE_S = 0.02
QUEUE_RECORDS_MAX = 10_000
END_OFFSET_FRESH_S = 2.0
"""An end offset this old is used again. It is older than the run all the same, and saves
a round trip for whoever starts many runs."""
MOVING = frozenset({KafkaCode.NOT_LEADER_FOR_PARTITION, KafkaCode.LEADER_NOT_AVAILABLE})
MOVING_PAUSE_S = 0.05
INBOX = ".inbox"

PRODUCER_SETTINGS: dict[str, str | int | bool] = {
    "acks": "all",
    "enable.idempotence": True,  # a retry after a lost answer does not become a second trigger
    "linger.ms": 0,
    "compression.type": "lz4",
    "message.timeout.ms": DELIVERY_TIMEOUT_MS,
    "queue.buffering.max.messages": QUEUE_RECORDS_MAX,
    "log_level": 2,  # broken connections are reported by error_cb and named in our errors
}


LATEST = cast("OffsetSpec", OffsetSpec.latest())  # type: ignore[no-untyped-call]
EARLIEST = cast("OffsetSpec", OffsetSpec.earliest())  # type: ignore[no-untyped-call]


class AppPlaces(NamedTuple):
    """The topics of an app that a client has to do with."""

    app: str
    inbox: TopicFacts
    control: TopicFacts
    history: TopicFacts


class Appended(NamedTuple):
    partition: int
    offset: int


class Cluster:
    def __init__(self, servers: str, config: Mapping[str, str]) -> None:
        self.servers = servers
        self.config: dict[str, Any] = {**config, "bootstrap.servers": servers}
        self.last_error: str | None = None
        settings = {**PRODUCER_SETTINGS, **self.config, "error_cb": self._note_error}
        try:
            self._producer = Producer(settings)
            self._admin = AdminClient({"log_level": 2, **self.config})
        except KafkaException as error:
            raise kafka_error("use kafka.config", servers, code_of(error)) from None
        self._places: dict[str, AppPlaces] = {}
        self._ends: dict[tuple[str, int], tuple[float, int]] = {}
        self._closing = threading.Event()
        self._poller = threading.Thread(target=self._poll, name="stepfold-client", daemon=True)
        self._poller.start()

    async def close(self) -> None:
        await asyncio.to_thread(self._close)

    @property
    def _untyped_admin(self) -> Any:
        """The annotations of confluent_kafka leave the types of its answers out."""
        return self._admin

    async def places(self, app: str) -> AppPlaces:
        known = self._places.get(app)
        if known is not None:
            return known
        names = [f"{app}{INBOX}", f"{app}.control", f"{app}.history"]
        try:
            inbox, control, history = await self._describe(names)
        except KafkaException as error:
            code = code_of(error)
            if code.code() in MISSING:
                raise no_app(app, await self.apps(), self.servers) from None
            raise self._error(f"find the topics of app {app!r}", code) from None
        self._places[app] = AppPlaces(app, inbox, control, history)
        return self._places[app]

    async def apps(self) -> list[str]:
        """The apps that have an inbox, by name."""
        try:
            listed = await asyncio.to_thread(self._admin.list_topics, timeout=REQUEST_TIMEOUT_S)
        except KafkaException as error:
            raise self._error("list topics", code_of(error)) from None
        return sorted(name.removesuffix(INBOX) for name in listed.topics if name.endswith(INBOX))

    async def app_of(self, short_id: str, run_id: str) -> AppPlaces:
        """The app whose inbox is meant in a run id."""
        for places in self._places.values():
            if short_topic_id(places.inbox.topic_id) == short_id:
                return places
        apps = await self.apps()
        for app in apps:
            with contextlib.suppress(NotFoundError):  # an inbox of somebody else's, alone
                places = await self.places(app)
                if short_topic_id(places.inbox.topic_id) == short_id:
                    return places
        raise NotFoundError(
            f"no app at Kafka {self.servers} has the run {run_id!r}: none of its inboxes "
            f"({', '.join(apps) or 'none'}) is the one that the id names; it may have been "
            "re-created, or the run is on another cluster"
        )

    async def append(
        self,
        topic: str,
        partition: int,
        *,
        key: str,
        value: bytes,
        headers: Sequence[tuple[str, bytes]],
        timeout_s: float,
    ) -> Appended:
        """Returns once Kafka has acknowledged the record."""
        loop = asyncio.get_running_loop()
        acked: asyncio.Future[Appended] = loop.create_future()

        def delivered(error: KafkaCode | None, message: Any) -> None:
            # The loop may be closed by then: the caller is gone, and nobody asks any more.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(self._settle, acked, topic, error, message)

        try:
            async with asyncio.timeout(timeout_s):
                while True:
                    try:
                        self._producer.produce(
                            topic,
                            value=value,
                            key=key.encode(),
                            partition=partition,
                            headers=list(headers),
                            on_delivery=delivered,
                        )
                        break
                    except BufferError:
                        await asyncio.sleep(QUEUE_FULL_PAUSE_S)
                return await acked
        except TimeoutError:
            why = self.last_error or f"no acknowledgement within {timeout_s:g} s"
            action = f"append to {topic}, though the record may still arrive"
            raise unreachable(action, self.servers, why) from None
        except KafkaException as error:
            raise self._error(f"append to {topic}", code_of(error)) from None

    async def end_offset(self, topic: str, partition: int) -> int:
        """Where the partition ended, now or a moment ago."""
        now = asyncio.get_running_loop().time()
        known = self._ends.get((topic, partition))
        if known is not None and now - known[0] < END_OFFSET_FRESH_S:
            return known[1]
        return await self.end_offset_now(topic, partition)

    async def end_offset_now(self, topic: str, partition: int) -> int:
        offset = await self._offset(topic, partition, LATEST)
        self._ends[topic, partition] = (asyncio.get_running_loop().time(), offset)
        return offset

    async def offset_at(self, topic: str, partition: int, timestamp_ms: int) -> int:
        """The first offset at or after this time; the end when there is none."""
        spec = OffsetSpec.for_timestamp(timestamp_ms)
        offset = await self._offset(topic, partition, spec)
        return offset if offset >= 0 else await self.end_offset(topic, partition)

    async def first_offset(self, topic: str, partition: int) -> int:
        return await self._offset(topic, partition, EARLIEST)

    async def timestamp_of(self, topic: str, partition: int, offset: int) -> int | None:
        """When a record was written, in milliseconds; None when it is not there (any more)."""
        if not await self._holds(topic, partition, offset):
            return None
        return await asyncio.to_thread(self._read_timestamp, topic, partition, offset)

    async def _holds(self, topic: str, partition: int, offset: int) -> bool:
        end = await self._offset(topic, partition, LATEST)
        return await self.first_offset(topic, partition) <= offset < end

    def _read_timestamp(self, topic: str, partition: int, offset: int) -> int | None:
        settings: dict[str, Any] = {
            "log_level": 2,
            **self.config,
            "group.id": "stepfold-client",  # demanded by librdkafka; no group is joined
            "enable.auto.commit": False,
            "auto.offset.reset": "error",
        }
        consumer = Consumer(settings)
        try:
            consumer.assign([TopicPartition(topic, partition, offset)])
            message = consumer.poll(REQUEST_TIMEOUT_S)
            if message is None or message.error() is not None:
                return None
            return int(message.timestamp()[1])
        finally:
            consumer.close()

    async def _offset(self, topic: str, partition: int, spec: OffsetSpec) -> int:
        asked = TopicPartition(topic, partition)
        deadline = asyncio.get_running_loop().time() + REQUEST_TIMEOUT_S
        while True:
            futures = self._untyped_admin.list_offsets(
                {asked: spec}, request_timeout=REQUEST_TIMEOUT_S
            )
            try:
                return int((await _answer(futures[asked])).offset)
            except (KafkaException, TimeoutError) as error:
                code = code_of(error)
                # Leaders move, and a topic that was made a moment ago has none yet.
                if code.code() not in MOVING or asyncio.get_running_loop().time() > deadline:
                    raise self._error(f"read offsets of {topic}", code) from None
            await asyncio.sleep(MOVING_PAUSE_S)

    async def _describe(self, names: list[str]) -> list[TopicFacts]:
        futures = self._untyped_admin.describe_topics(
            TopicCollection(names), request_timeout=REQUEST_TIMEOUT_S
        )
        described = [await _answer(futures[name]) for name in names]
        return [TopicFacts(t.name, str(t.topic_id), len(t.partitions)) for t in described]

    def _settle(
        self, acked: asyncio.Future[Appended], topic: str, error: KafkaCode | None, message: Any
    ) -> None:
        if acked.done():
            return
        if error is not None:
            acked.set_exception(self._error(f"append to {topic}", error))
        elif message.offset() is None:
            acked.set_exception(
                unreachable(f"learn where {topic} took the record", self.servers, "no offset")
            )
        else:
            acked.set_result(Appended(message.partition(), message.offset()))

    def _error(self, action: str, code: KafkaCode) -> Exception:
        return kafka_error(action, self.servers, code, self.last_error)

    def _note_error(self, error: KafkaCode) -> None:
        if error.code() != KafkaCode._ALL_BROKERS_DOWN or self.last_error is None:
            self.last_error = error.str()

    def _poll(self) -> None:
        while not self._closing.is_set():
            self._producer.poll(POLL_S)

    def _close(self) -> None:
        self._closing.set()
        self._poller.join()
        self._producer.flush(POLL_S)  # whoever awaited a record has it, or gave up


async def _answer(future: ThreadFuture[Answer]) -> Answer:
    async with asyncio.timeout(REQUEST_TIMEOUT_S * 1.5):
        return await asyncio.wrap_future(future)
