"""The HTTP application, put together from its parts."""

from __future__ import annotations

from importlib.metadata import version

from aiohttp import web
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from pydantic import BaseModel

from stepfold_projections.asyncstore import AsyncStore
from stepfold_projections.http import openapi
from stepfold_projections.http.problems import ProblemError
from stepfold_projections.http.routes import BODY_BYTES_MAX, Route, add_route, add_routes, problems
from stepfold_projections.http.runs import RunsApi
from stepfold_projections.http.steering import NOT_BUILT, Gateway, SteeringApi
from stepfold_projections.projector import Projector
from stepfold_projections.resumption import Resumption
from stepfold_projections.runs import Status

METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Check(BaseModel):
    name: str
    ok: bool
    detail: str


class Health(BaseModel):
    ok: bool
    checks: list[Check]


def make_app(
    store: AsyncStore, projector: Projector, resumption: Resumption, gateway: Gateway
) -> web.Application:
    app = web.Application(middlewares=[problems], client_max_size=BODY_BYTES_MAX)
    routes = [
        *RunsApi(store, projector, resumption).routes(),
        *SteeringApi(store, gateway).routes(),
    ]
    for method, path in NOT_BUILT:
        add_route(app, method, path, _not_built)
    add_routes(app, routes)
    _add_documents(app, routes)
    _add_health(app, projector)
    _add_metrics(app, store, projector, resumption)
    return app


async def _not_built(request: web.Request) -> web.StreamResponse:
    raise ProblemError(501, f"{request.method} {request.path} is not in this version of stepfold")


def _add_documents(app: web.Application, routes: list[Route]) -> None:
    spec = openapi.document(routes, version("stepfold"))
    page = openapi.page(spec)

    async def document(request: web.Request) -> web.StreamResponse:
        return web.json_response(spec)

    async def docs(request: web.Request) -> web.StreamResponse:
        return web.Response(
            text=page,
            content_type="text/html",
            headers={"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'"},
        )

    app.router.add_get("/openapi.json", document)
    app.router.add_get("/docs", docs)


def _add_health(app: web.Application, projector: Projector) -> None:
    async def live(request: web.Request) -> web.StreamResponse:
        return web.Response(text="ok\n")

    async def ready(request: web.Request) -> web.StreamResponse:
        return _health([_going_on(projector), _caught_up(projector), _histories(projector)])

    async def startup(request: web.Request) -> web.StreamResponse:
        # A restart would not help a history that cannot be read.
        return _health([_going_on(projector), _caught_up(projector)])

    app.router.add_get("/livez", live)
    app.router.add_get("/readyz", ready)
    app.router.add_get("/startupz", startup)


def _health(checks: list[Check]) -> web.Response:
    health = Health(ok=all(check.ok for check in checks), checks=checks)
    return web.Response(
        status=200 if health.ok else 503,
        text=health.model_dump_json(),
        content_type="application/json",
    )


def _going_on(projector: Projector) -> Check:
    trouble = projector.trouble
    return Check(name="projection", ok=not trouble, detail=trouble or "going on")


def _caught_up(projector: Projector) -> Check:
    detail = f"{len(projector.shards)} partitions of {len(projector.apps)} apps"
    if projector.missing:
        names = ", ".join(projector.missing)
        detail += f"; not there yet: {names}; create topics with: stepfold topics apply APP"
    return Check(name="caught-up", ok=projector.is_caught_up, detail=detail)


def _histories(projector: Projector) -> Check:
    """Not ok when there is no app left whose histories can all be read.

    One app's unreadable history must not take the API away from all other apps; it
    shows here, in /api/v1/apps and in stepfold_projection_faulted.
    """
    faulted = {shard.app for shard in projector.shards if shard.fault}
    is_any_left = not faulted or len(faulted) < len(projector.apps)
    return Check(name="histories", ok=is_any_left, detail="; ".join(projector.faults) or "readable")


def _add_metrics(
    app: web.Application, store: AsyncStore, projector: Projector, resumption: Resumption
) -> None:
    async def metrics(request: web.Request) -> web.StreamResponse:
        counts = await store.read(store.store.counts)
        registry = CollectorRegistry()
        registry.register(_Figures(counts, projector, resumption))
        return web.Response(body=generate_latest(registry), headers={"Content-Type": METRICS_TYPE})

    app.router.add_get("/metrics", metrics)


class _Figures:
    """One scrape: everything comes from where it is known, nothing is counted twice."""

    def __init__(
        self,
        counts: dict[tuple[str, str, Status], int],
        projector: Projector,
        resumption: Resumption,
    ) -> None:
        self._counts = counts
        self._projector = projector
        self._resumption = resumption

    def collect(self) -> list[CounterMetricFamily | GaugeMetricFamily]:
        projector = self._projector
        runs = GaugeMetricFamily(
            "stepfold_runs", "Runs by status.", labels=["app", "workflow", "status"]
        )
        for key, count in self._counts.items():
            runs.add_metric(key, count)
        positions = GaugeMetricFamily(
            "stepfold_projection_offset",
            "Next history offset to read.",
            labels=["app", "partition"],
        )
        faulted = GaugeMetricFamily(
            "stepfold_projection_faulted",
            "1 when a history cannot be read on.",
            labels=["app", "partition"],
        )
        void = CounterMetricFamily(
            "stepfold_void_records", "Records that do not count.", labels=["app", "partition"]
        )
        for shard in projector.shards:
            labels = (shard.app, str(shard.partition))
            positions.add_metric(labels, shard.next_offset)
            faulted.add_metric(labels, bool(shard.fault))
            void.add_metric(labels, shard.void_records)
        return [
            runs,
            positions,
            faulted,
            void,
            CounterMetricFamily(
                "stepfold_projected_records",
                "History records read since the start.",
                value=projector.records_total,
            ),
            GaugeMetricFamily(
                "stepfold_projection_caught_up",
                "1 when every history was read to its end once.",
                value=projector.is_caught_up,
            ),
            GaugeMetricFamily(
                "stepfold_stalled_runs", "Runs that stopped moving.", value=self._resumption.stalled
            ),
            CounterMetricFamily(
                "stepfold_nudges", "Nudges sent.", value=self._resumption.nudges_total
            ),
        ]
