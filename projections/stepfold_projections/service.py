"""The projection service: its parts put together, and run until it is told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, Callable, Collection, Mapping
from functools import partial
from typing import Any

from aiohttp import web

from stepfold.client.client import Client
from stepfold.core.commands import Nudge
from stepfold.core.errors import ConfigurationError, KafkaError
from stepfold.core.ids import parse_run_id
from stepfold.journal.reader import KafkaReader
from stepfold.journal.settings import reader_config
from stepfold.sdk.event import Event
from stepfold_projections.asyncstore import AsyncStore
from stepfold_projections.http.server import make_app
from stepfold_projections.http.steering import Placed
from stepfold_projections.projector import HistoryOf, Projector
from stepfold_projections.resumption import Resumption
from stepfold_projections.runs import RunRow
from stepfold_projections.sqlstore import SqlStore

logger = logging.getLogger(__name__)

STORE_DEFAULT = "sqlite:///.stepfold/traces.db"
LISTEN_DEFAULT = "127.0.0.1:8484"
IN_MEMORY = ("sqlite://", "sqlite:///:memory:")
SHUTDOWN_S = 5.0
REBUILD_LOOK_S = 0.2


class ListenError(ConfigurationError):
    """The address to listen on cannot be had."""


class KafkaGateway:
    """A Gateway, and the way of nudges, through the client."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def send(
        self, app: str, name: str, data: Any, *, event_id: str | None, key: str | None
    ) -> Placed:
        event: Event[Any] = Event(name, data=data, id=event_id, key=key)
        receipt = await self._client.send(app, event)
        return Placed(receipt.topic, receipt.partition, receipt.offset)

    async def start(
        self, app: str, workflow: str, data: Any, *, idempotency_key: str | None
    ) -> Placed:
        handle = await self._client.start(app, workflow, data, idempotency_key=idempotency_key)
        address = parse_run_id(handle.id)
        return Placed(f"{app}.inbox", address.partition, address.offset, handle.id)

    async def signal(self, run_id: str, name: str, payload: Any) -> Placed:
        return Placed(*await self._client.signal(run_id, name, payload))

    async def cancel(self, run_id: str, reason: str) -> Placed:
        return Placed(*await self._client.cancel(run_id, reason))

    async def pause(self, run_id: str, reason: str) -> Placed:
        return Placed(*await self._client.pause(run_id, reason))

    async def resume(self, run_id: str, reason: str) -> Placed:
        return Placed(*await self._client.resume(run_id, reason))

    async def nudge(self, row: RunRow, nudge: Nudge) -> None:
        await self._client.command(nudge)

    async def histories(self, wanted: Collection[str]) -> list[HistoryOf]:
        return [HistoryOf(app, facts) for app, facts in await self._client.histories(wanted)]


class ProjectionService:
    """servers: Kafka's. store: a database URL. listen: HOST:PORT, port 0 for any free one.

    apps: those that are projected here; empty: all that have an inbox at this Kafka.
    """

    def __init__(
        self,
        servers: str,
        *,
        apps: Collection[str] = (),
        store: str = STORE_DEFAULT,
        listen: str = LISTEN_DEFAULT,
        kafka_config: Mapping[str, str] | None = None,
    ) -> None:
        self._servers = servers
        self._apps = apps
        self._config = dict(kafka_config or {})
        self._store_url = store
        self._host, self._port = parse_listen(listen)
        self.address = ""

    async def run(self, *, stopping: asyncio.Event, ready: Callable[[str], None]) -> None:
        """Until `stopping` is set. ready is told the address once the API answers."""
        store = AsyncStore(open_store(self._store_url))
        try:
            async with Client(self._servers, config=self._config) as client:
                gateway = KafkaGateway(client)
                loop = asyncio.get_running_loop()
                reader = KafkaReader(reader_config(self._servers, self._config), loop)
                discover = partial(gateway.histories, self._apps)
                projector = Projector(store, reader, discover, self._apps)
                resumption = Resumption(store, gateway.nudge, projector.is_current)
                app = make_app(store, projector, resumption, gateway)
                try:
                    # Errors of listening are raised as they are, and not in a group.
                    async with self._serving(app) as self.address, asyncio.TaskGroup() as tasks:
                        working = [
                            tasks.create_task(projector.run(), name="projector"),
                            tasks.create_task(resumption.run(), name="resumption"),
                        ]
                        ready(self.address)
                        await stopping.wait()
                        for task in working:
                            task.cancel()
                finally:
                    await asyncio.to_thread(reader.shut_down)
        finally:
            await asyncio.to_thread(store.close)

    @contextlib.asynccontextmanager
    async def _serving(self, app: web.Application) -> AsyncGenerator[str]:
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=SHUTDOWN_S)
        await runner.setup()
        try:
            site = web.TCPSite(runner, self._host, self._port)
            try:
                await site.start()
            except OSError as error:
                raise ListenError(
                    f"cannot listen on {self._host}:{self._port}: {error.strerror}; "
                    "choose another one with --listen HOST:PORT"
                ) from error
            host, port = runner.addresses[0][:2]
            yield f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
        finally:
            await runner.cleanup()


async def rebuild(
    servers: str,
    *,
    store: str = STORE_DEFAULT,
    apps: Collection[str] = (),
    kafka_config: Mapping[str, str] | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> int:
    """Forget the store's contents and fill it from the log; how many records it took.

    apps: forget and fill those only; empty: everything. progress is told how many records
    are projected, and how many there are.
    """
    config = dict(kafka_config or {})
    async with Client(servers, config=config) as client:
        # What is there is only given up once Kafka has answered.
        total = await client.history_records(apps)
        async_store = AsyncStore(emptied_store(store, apps))
        reader = KafkaReader(reader_config(servers, config), asyncio.get_running_loop())
        discover = partial(KafkaGateway(client).histories, apps)
        projector = Projector(async_store, reader, discover, apps)
        working = asyncio.create_task(projector.run())
        try:
            while not projector.is_idle:
                if working.done():
                    working.result()
                if projector.trouble:
                    raise KafkaError(f"the rebuild stopped: {projector.trouble}")
                progress(projector.records_total, total)
                await asyncio.sleep(REBUILD_LOOK_S)
            progress(projector.records_total, total)
            if projector.faults:
                raise KafkaError("; ".join(projector.faults))
        finally:
            working.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await working
            await asyncio.to_thread(reader.shut_down)
            await asyncio.to_thread(async_store.close)
    return projector.records_total


def open_store(url: str) -> SqlStore:
    """Raises ConfigurationError for a URL or a database that cannot be used."""
    store = _store(url)
    store.open()
    return store


def emptied_store(url: str, apps: Collection[str] = ()) -> SqlStore:
    """Without what it had of these apps; of any, when none are named."""
    store = _store(url)
    if apps:
        store.open()
        store.forget(apps)
    else:
        store.clear()
    return store


def _store(url: str) -> SqlStore:
    if url in IN_MEMORY:
        raise ConfigurationError(
            f"--store {url!r} would be another database for each thread; name a file, such as "
            f"{STORE_DEFAULT}, which can be deleted at any time: the log has everything"
        )
    return SqlStore(url)


def parse_listen(listen: str) -> tuple[str, int]:
    host, _, port = listen.rpartition(":")
    if not host or not port.isdigit() or int(port) > 65_535:
        raise ConfigurationError(f"--listen must be HOST:PORT, got {listen!r}")
    return host.strip("[]"), int(port)
