"""What a worker process tells a monitor over HTTP: /livez, /readyz and /metrics.

Off unless an address is set. aiohttp and prometheus-client are extras, which a worker does
without; so they are imported here when the server starts, and nowhere else in the engine.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, NamedTuple

from stepfold.core.errors import ConfigurationError

if TYPE_CHECKING:
    from aiohttp import web
    from prometheus_client.core import GaugeMetricFamily

METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"
PORT_MAX = 65_535
FAULTED = "faulted"


class ShardHealth(NamedTuple):
    """oldest_unproven_s: how long the oldest event without a proof has been waiting for it.

    running: attempts of the shard that run here. kept: results of attempts that are not
    on the log yet.
    """

    app: str
    partition: int
    state: str
    unproven: int
    oldest_unproven_s: float
    running: int
    kept: int


Shards = Callable[[], Sequence[ShardHealth]]
IsReady = Callable[[], bool]


class Address(NamedTuple):
    host: str
    port: int


def parse_address(text: str, number: int = 0) -> Address:
    """Of the number-th process: each listens on a port of its own, counted from HOST:PORT on."""
    host, _, port = text.rpartition(":")
    if not host or not port.isdigit() or int(port) + number > PORT_MAX:
        raise ConfigurationError(
            f"worker.health must be HOST:PORT, with ports up to {PORT_MAX} for all processes,"
            f" got {text!r}; set it as in --health 127.0.0.1:8485"
        )
    return Address(host.strip("[]"), int(port) + number)


@asynccontextmanager
async def serve_health(
    address: Address, *, shards: Shards, is_ready: IsReady
) -> AsyncGenerator[None]:
    """Raises ConfigurationError when that is not possible."""
    try:
        from aiohttp import web
    except ImportError as error:
        raise ConfigurationError(
            "worker.health is set, and aiohttp is not installed; install stepfold[projections],"
            " or do without --health"
        ) from error
    runner = web.AppRunner(_application(shards, is_ready), access_log=None)
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, address.host, address.port).start()
        except OSError as error:
            raise ConfigurationError(
                f"worker.health: cannot listen on {address.host}:{address.port}:"
                f" {error.strerror}; choose another one with --health HOST:PORT"
            ) from error
        yield
    finally:
        await runner.cleanup()


def _application(shards: Shards, is_ready: IsReady) -> web.Application:
    from aiohttp import web
    from prometheus_client import CollectorRegistry, generate_latest

    async def live(request: web.Request) -> web.StreamResponse:
        return web.Response(text="ok\n")

    async def ready(request: web.Request) -> web.StreamResponse:
        present = shards()
        is_well = is_ready() and all(shard.state != FAULTED for shard in present)
        body = {"ready": is_well, "shards": [shard._asdict() for shard in present]}
        return web.Response(
            status=200 if is_well else 503,
            text=json.dumps(body),
            content_type="application/json",
        )

    async def metrics(request: web.Request) -> web.StreamResponse:
        registry = CollectorRegistry()
        registry.register(_Figures(shards()))
        return web.Response(body=generate_latest(registry), headers={"Content-Type": METRICS_TYPE})

    application = web.Application()
    application.router.add_get("/livez", live)
    application.router.add_get("/readyz", ready)
    application.router.add_get("/metrics", metrics)
    return application


class _Figures:
    """One scrape."""

    def __init__(self, shards: Sequence[ShardHealth]) -> None:
        self._shards = shards

    def collect(self) -> Iterable[GaugeMetricFamily]:
        from prometheus_client.core import GaugeMetricFamily

        labels = ["app", "partition"]
        state = GaugeMetricFamily(
            "stepfold_shard_state", "1 for the state of the shard.", labels=[*labels, "state"]
        )
        unproven = GaugeMetricFamily(
            "stepfold_shard_unproven_events", "Events without a proof.", labels=labels
        )
        oldest = GaugeMetricFamily(
            "stepfold_shard_oldest_unproven_seconds", "Age of the oldest of them.", labels=labels
        )
        running = GaugeMetricFamily(
            "stepfold_attempts_running", "Attempts that run in this process.", labels=labels
        )
        kept = GaugeMetricFamily(
            "stepfold_results_kept", "Results that are not on the log yet.", labels=labels
        )
        for shard in self._shards:
            place = (shard.app, str(shard.partition))
            state.add_metric((*place, shard.state), 1)
            unproven.add_metric(place, shard.unproven)
            oldest.add_metric(place, shard.oldest_unproven_s)
            running.add_metric(place, shard.running)
            kept.add_metric(place, shard.kept)
        return (state, unproven, oldest, running, kept)
