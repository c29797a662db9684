"""Sends, starts, signals, cancels and waits: with Kafka alone, without any worker."""

from __future__ import annotations

import asyncio
import contextlib
import json
import uuid
from collections.abc import Collection, Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, Self, TypeVar, cast, overload

import pydantic_core

from stepfold.client.cluster import AppPlaces, Cluster
from stepfold.core import commands as c
from stepfold.core.errors import NotFoundError, PayloadError, PayloadTooLargeError
from stepfold.core.ids import RunAddress, is_child, parse_run_id, run_id_of, short_topic_id
from stepfold.core.routing import partition_for
from stepfold.journal.codec import encode_command
from stepfold.journal.port import TopicFacts

if TYPE_CHECKING:
    from stepfold.client.histories import Histories
    from stepfold.sdk.event import Event
    from stepfold.sdk.workflow import WorkflowDefinition

Input = TypeVar("Input")
Result = TypeVar("Result")

SERVERS_DEFAULT = "127.0.0.1:9092"
TIMEOUT_S = 30.0
PAYLOAD_BYTES_MAX = 900_000
"""What fits into one event (rule R20)."""
LOOK_BACK_MS = 5 * 60 * 1_000
"""How much earlier than its trigger a run's history is looked for: clocks of brokers differ."""
WHO = "client"


class RunHandle(Generic[Result]):
    """A run, known by its id. `id` is where the trigger was put, so it needs no answer."""

    def __init__(
        self, client: Client, run_id: str, *, begin: int | None, definition: Any = None
    ) -> None:
        self.id = run_id
        self._client = client
        self._begin = begin
        self._definition: WorkflowDefinition[Any, Result] | None = definition

    async def result(self, timeout: float | None = None) -> Result:
        """Wait for the run's end. Raises RunFailed, RunCancelled, TimeoutError (seconds).

        With an idempotency key that was used before, this is the first run's result.
        """
        async with asyncio.timeout(timeout):
            payload = await self._client.result_of(self.id, self._begin)
        if self._definition is not None:
            return self._definition.result_of(payload)
        return cast("Result", pydantic_core.from_json(payload))

    def __repr__(self) -> str:
        return f"RunHandle({self.id!r})"


class Receipt(NamedTuple):
    """Kafka has the event: `topic`, `partition` and `offset` say where."""

    client: Client
    places: AppPlaces
    partition: int
    offset: int
    begin: int

    @property
    def topic(self) -> str:
        return self.places.inbox.name

    async def runs(self, timeout: float = TIMEOUT_S) -> list[RunHandle[Any]]:
        """What was started for the event, once an owner has taken it in: none, one or several.

        Raises NotFoundError when the record could not be read (it is in the DLQ), and
        TimeoutError when no worker took it in time.
        """
        async with asyncio.timeout(timeout):
            started, first = await self.client.started_by(self)
        begin = None if first else self.begin
        return [RunHandle(self.client, run_id, begin=begin) for run_id in started]


class Acknowledged(NamedTuple):
    """Where Kafka took a command; what became of it is in the run's history."""

    topic: str
    partition: int
    offset: int


class Client:
    """bootstrap_servers: default is the settings', then the local Kafka of `state_dir`.

    config: further librdkafka keys, such as credentials; default is the settings'.
    """

    def __init__(
        self,
        bootstrap_servers: str | None = None,
        *,
        config: Mapping[str, str] | None = None,
        state_dir: Path | None = None,
    ) -> None:
        self.bootstrap_servers = bootstrap_servers or default_servers(state_dir)
        self._config = dict(default_config() if config is None else config)
        self._connected: Cluster | None = None
        self._reader: Any = None
        self._opened_histories: Histories | None = None

    async def __aenter__(self) -> Self:
        self._connected = Cluster(self.bootstrap_servers, self._config)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._reader is not None:
            await asyncio.to_thread(self._reader.shut_down)
        if self._connected is not None:
            await self._connected.close()

    async def send(self, app: str, event: Event[Any], *, timeout: float = TIMEOUT_S) -> Receipt:
        """Put an event on the app's inbox; returns when Kafka has acknowledged it."""
        event_id = event.id or str(uuid.uuid4())
        trigger = _trigger(name=event.name, id=event_id, data=event.data)
        return await self._produce(app, trigger, event.key or event_id, timeout)

    @overload
    async def start(
        self,
        workflow: WorkflowDefinition[Input, Result],
        input: Input = ...,
        /,
        *,
        idempotency_key: str | None = None,
        timeout: float = TIMEOUT_S,
    ) -> RunHandle[Result]: ...
    @overload
    async def start(
        self,
        app: str,
        workflow: str,
        input: object = None,
        /,
        *,
        idempotency_key: str | None = None,
        timeout: float = TIMEOUT_S,
    ) -> RunHandle[Any]: ...
    async def start(
        self,
        target: WorkflowDefinition[Any, Any] | str,
        /,
        *args: Any,
        idempotency_key: str | None = None,
        timeout: float = TIMEOUT_S,
    ) -> RunHandle[Any]:
        """Start one workflow; its id is known as soon as Kafka has acknowledged."""
        definition = None if isinstance(target, str) else target
        app, name, data = (
            (definition.app, definition.name, args[0] if args else None)
            if definition is not None
            else (cast("str", target), str(args[0]), args[1] if len(args) > 1 else None)
        )
        trigger = _trigger(name=name, workflow=name, data=data, key=idempotency_key or "")
        placed_by = idempotency_key or str(uuid.uuid4())
        receipt = await self._produce(app, trigger, placed_by, timeout)
        topic = short_topic_id(receipt.places.inbox.topic_id)
        run_id = run_id_of(receipt.partition, topic, receipt.offset)
        return RunHandle(self, run_id, begin=receipt.begin, definition=definition)

    async def signal(self, run_id: str, name: str, payload: object = None) -> Acknowledged:
        """Send a signal; one that comes before its wait is kept for it."""
        command = c.Signal(
            run_id=run_id,
            signal_id=str(uuid.uuid4()),
            name=name,
            payload=_encoded(payload),
            payload_encoding="json",
            key_id="",
        )
        return await self.command(command)

    async def cancel(self, run_id: str, reason: str = "") -> Acknowledged:
        """Ask to cancel: the workflow gets a CancelledError at its next await."""
        return await self.command(c.Cancel(run_id=run_id, by=WHO, reason=reason))

    async def pause(self, run_id: str, reason: str = "") -> Acknowledged:
        """Start no further step of the run until it is resumed."""
        return await self.command(c.Pause(run_id=run_id, by=WHO, reason=reason))

    async def resume(self, run_id: str, reason: str = "") -> Acknowledged:
        """Go on with a run that is paused or parked."""
        return await self.command(c.Resume(run_id=run_id, by=WHO, reason=reason))

    async def command(self, command: c.Control) -> Acknowledged:
        """Put a command on the control topic of its run's shard.

        Raises NotFoundError when the id names a trigger that nobody has sent.
        """
        address = parse_run_id(command.run_id)
        places = await self._cluster.app_of(address.topic, command.run_id)
        await self._check_sent(places, address, command.run_id)
        kind, run_id = type(command).__name__, command.run_id
        placed = await self._cluster.append(
            places.control.name,
            address.partition,
            key=run_id,
            value=encode_command(command),
            headers=[("sf-kind", kind.encode()), ("sf-run", run_id.encode())],
            timeout_s=TIMEOUT_S,
        )
        return Acknowledged(places.control.name, placed.partition, placed.offset)

    async def histories(self, wanted: Collection[str] = ()) -> list[tuple[str, TopicFacts]]:
        """The history topics of these apps, as far as they are there; by default of every app."""
        found: list[tuple[str, TopicFacts]] = []
        for app in wanted or await self._cluster.apps():
            with contextlib.suppress(NotFoundError):  # an inbox of somebody else's, alone
                found.append((app, (await self._cluster.places(app)).history))
        return found

    async def history_records(self, wanted: Collection[str] = ()) -> int:
        """How many records the histories of these apps (or of all) hold now.

        Raises NotFoundError for an app that is named and is not there.
        """
        for app in wanted:
            await self._cluster.places(app)
        count = 0
        for _, history in await self.histories(wanted):
            for partition in range(history.partitions):
                end = await self._cluster.end_offset(history.name, partition)
                count += end - await self._cluster.first_offset(history.name, partition)
        return count

    def handle(self, run_id: str) -> RunHandle[Any]:
        """A run known by its id. Raises ValueError when the text is no run id."""
        parse_run_id(run_id)
        return RunHandle(self, run_id, begin=None)

    # For handles and receipts

    async def result_of(self, run_id: str, begin: int | None) -> bytes:
        """The payload that the run, or the first one of its key, completed with."""
        fate = await self._fate_of(run_id, begin)
        if isinstance(fate, str):
            fate = await self._fate_of(fate, None)
        if isinstance(fate, str):
            raise NotFoundError(f"run {run_id} leads from run to run; it has no result")
        return fate

    async def started_by(self, receipt: Receipt) -> tuple[list[str], bool]:
        """The runs of an event, and whether it was a repetition of an earlier one."""
        places, partition = receipt.places, receipt.partition
        started, is_repetition = await self._histories.started_by(
            places.history, partition, receipt.begin, places.inbox, receipt.offset
        )
        if is_repetition:
            first = parse_run_id(started[0]).offset
            begin = await self._begin_of(places, partition, first)
            started, _ = await self._histories.started_by(
                places.history, partition, begin, places.inbox, first
            )
        return started, is_repetition

    async def _fate_of(self, run_id: str, begin: int | None) -> bytes | str:
        address = parse_run_id(run_id)
        places = await self._cluster.app_of(address.topic, run_id)
        if begin is None:
            begin = await self._begin_of(places, address.partition, address.offset)
        return await self._histories.end_of(places.history, address.partition, begin, run_id)

    # Inside

    @property
    def _cluster(self) -> Cluster:
        if self._connected is None:
            raise RuntimeError("the client is not open; use `async with Client() as client:`")
        return self._connected

    async def _check_sent(self, places: AppPlaces, address: RunAddress, run_id: str) -> None:
        inbox, partition = places.inbox, address.partition
        end = 0
        if partition < inbox.partitions:
            if is_child(address):
                return
            end = await self._cluster.end_offset_now(inbox.name, partition)
        if address.offset >= end:
            raise NotFoundError(
                f"there is no run {run_id}: it would be of offset {address.offset} of "
                f"{inbox.name}, partition {partition}, which ends at {end}"
            )

    async def _begin_of(self, places: AppPlaces, partition: int, offset: int) -> int:
        stamp = await self._cluster.timestamp_of(places.inbox.name, partition, offset)
        if stamp is None:
            return await self._cluster.first_offset(places.history.name, partition)
        history = places.history.name
        return await self._cluster.offset_at(history, partition, max(0, stamp - LOOK_BACK_MS))

    async def _produce(self, app: str, trigger: c.Trigger, key: str, timeout_s: float) -> Receipt:
        places = await self._cluster.places(app)
        partition = partition_for(key, places.inbox.partitions)
        begin = await self._cluster.end_offset(places.history.name, partition)
        placed = await self._cluster.append(
            places.inbox.name,
            partition,
            key=key,
            value=encode_command(trigger),
            headers=[("sf-kind", b"Trigger")],
            timeout_s=timeout_s,
        )
        return Receipt(self, places, placed.partition, placed.offset, begin)

    @property
    def _histories(self) -> Histories:
        """Loaded when the first answer is waited for: sending needs no event classes."""
        if self._opened_histories is None:
            from stepfold.client.histories import Histories

            self._opened_histories = Histories(self._open_reader)
        return self._opened_histories

    def _open_reader(self) -> Any:
        if self._reader is None:
            from stepfold.journal.reader import KafkaReader
            from stepfold.journal.settings import reader_config

            config = reader_config(self.bootstrap_servers, self._config)
            self._reader = KafkaReader(config, asyncio.get_running_loop())
        return self._reader


def default_servers(state_dir: Path | None = None) -> str:
    """The settings', else those of the local Kafka of the state folder, else the usual."""
    from stepfold.settings import settings

    named = settings().kafka.bootstrap_servers
    if named:
        return named
    path = (state_dir or Path(".stepfold")) / "kafka" / "brokers.json"
    try:
        brokers = json.loads(path.read_text())["brokers"]
        return ",".join(f"127.0.0.1:{broker['port']}" for broker in brokers)
    except (OSError, ValueError, KeyError, TypeError):
        return SERVERS_DEFAULT


def default_config() -> dict[str, str]:
    from stepfold.settings import settings

    return settings().kafka.config


def _trigger(
    *,
    name: str,
    data: object,
    id: str = "",  # noqa: A002
    workflow: str = "",
    key: str = "",
) -> c.Trigger:
    return c.Trigger(
        name=name,
        id=id,
        workflow=workflow,
        payload=_encoded(data),
        payload_encoding="json",
        key_id="",
        idempotency_key=key,
        sent_at=0,
    )


def _encoded(data: object) -> bytes:
    try:
        payload = pydantic_core.to_json(data)
    except (pydantic_core.PydanticSerializationError, ValueError) as error:
        raise PayloadError(f"the payload cannot be sent as JSON: {error}") from error
    if len(payload) > PAYLOAD_BYTES_MAX:
        raise PayloadTooLargeError("the payload", len(payload), PAYLOAD_BYTES_MAX)
    return payload
