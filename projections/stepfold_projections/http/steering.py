"""Asking: events, starts, signals, cancels, pauses and resumes, each a record on Kafka.

An answer means that Kafka has the request. What became of it shows in the run: the
owner of its shard decides.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

from pydantic import BaseModel

from stepfold.core.ids import parse_run_id
from stepfold_projections.asyncstore import AsyncStore
from stepfold_projections.http import models as m
from stepfold_projections.http.problems import ProblemError
from stepfold_projections.http.routes import Call, Route

POST_ERRORS = (400, 403, 404, 409, 413, 415, 503, 504)
NOT_BUILT = (
    ("GET", "/api/v1/runs/{id}/stream"),
    ("GET", "/api/v1/runs/stream"),
    ("POST", "/api/v1/runs/{id}/replay"),
    ("POST", "/api/v1/runs/{id}/fork"),
    ("POST", "/api/v1/runs/bulk"),
    ("POST", "/hooks/{app}/{name}"),
)


class Placed(NamedTuple):
    """Where Kafka took a request, and the run it is about (empty: none is known yet)."""

    topic: str
    partition: int
    offset: int
    run_id: str = ""

    @property
    def position(self) -> str:
        return f"{self.topic}/{self.partition}/{self.offset}"


class Gateway(Protocol):
    """What the API asks of Kafka; raises the errors of stepfold.core.errors."""

    async def send(
        self, app: str, name: str, data: Any, *, event_id: str | None, key: str | None
    ) -> Placed: ...

    async def start(
        self, app: str, workflow: str, data: Any, *, idempotency_key: str | None
    ) -> Placed: ...

    async def signal(self, run_id: str, name: str, payload: Any) -> Placed: ...

    async def cancel(self, run_id: str, reason: str) -> Placed: ...

    async def pause(self, run_id: str, reason: str) -> Placed: ...

    async def resume(self, run_id: str, reason: str) -> Placed: ...


class SteeringApi:
    def __init__(self, store: AsyncStore, gateway: Gateway) -> None:
        self._store = store
        self._gateway = gateway

    def routes(self) -> list[Route]:
        run = "/api/v1/runs/{id}"
        return [
            self._post("/api/v1/apps/{app}/events", "Send an event.", self.send, m.SendBody),
            self._post(
                "/api/v1/apps/{app}/workflows/{name}/runs",
                "Start a workflow.",
                self.start,
                m.StartBody,
                m.Started,
            ),
            self._post(f"{run}/signal", "Signal a run.", self.signal, m.SignalBody),
            self._post(f"{run}/cancel", "Ask to cancel a run.", self.cancel, m.ReasonBody),
            self._post(f"{run}/pause", "Start no further step.", self.pause, m.ReasonBody),
            self._post(
                f"{run}/resume", "Go on with a paused or parked run.", self.resume, m.ReasonBody
            ),
        ]

    def _post(
        self,
        path: str,
        summary: str,
        handler: Any,
        body: type[BaseModel],
        response: type[BaseModel] = m.Accepted,
    ) -> Route:
        return Route(
            method="POST",
            path=path,
            summary=summary,
            handler=handler,
            body=body,
            response=response,
            status=202,
            errors=POST_ERRORS,
        )

    async def send(self, call: Call) -> m.Accepted:
        body: m.SendBody = call.body
        placed = await self._gateway.send(
            call.path["app"], body.name, body.data, event_id=body.id, key=body.key
        )
        return m.Accepted(position=placed.position)

    async def start(self, call: Call) -> m.Started:
        body: m.StartBody = call.body
        placed = await self._gateway.start(
            call.path["app"], call.path["name"], body.input, idempotency_key=body.idempotency_key
        )
        return m.Started(position=placed.position, id=placed.run_id)

    async def signal(self, call: Call) -> m.Accepted:
        body: m.SignalBody = call.body
        run_id = await self._open_run(call)
        placed = await self._gateway.signal(run_id, body.name, body.payload)
        return m.Accepted(position=placed.position)

    async def cancel(self, call: Call) -> m.Accepted:
        run_id = await self._open_run(call)
        return m.Accepted(position=(await self._gateway.cancel(run_id, call.body.reason)).position)

    async def pause(self, call: Call) -> m.Accepted:
        run_id = await self._open_run(call)
        return m.Accepted(position=(await self._gateway.pause(run_id, call.body.reason)).position)

    async def resume(self, call: Call) -> m.Accepted:
        run_id = await self._open_run(call)
        return m.Accepted(position=(await self._gateway.resume(run_id, call.body.reason)).position)

    async def _open_run(self, call: Call) -> str:
        """One that the projection does not know may be accepted in a moment: let it pass."""
        run_id = call.path["id"]
        try:
            parse_run_id(run_id)
        except ValueError as error:
            raise ProblemError(404, str(error)) from error
        row = (await self._store.read(self._store.store.rows, [run_id])).get(run_id)
        if row is not None and row.is_over:
            raise ProblemError(409, f"run {run_id} is over: {row.status}", run_status=row.status)
        return run_id
