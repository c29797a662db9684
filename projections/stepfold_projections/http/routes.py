"""A thin layer over aiohttp: typed routes, validated by pydantic, described once.

A route says what it takes and gives; parsing, errors and the OpenAPI document follow
from that, so that they cannot drift apart.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar, cast
from urllib.parse import urlsplit

from aiohttp import web
from pydantic import BaseModel, ValidationError

from stepfold.core.errors import (
    ConflictError,
    KafkaError,
    NotFoundError,
    PayloadError,
    PayloadTooLargeError,
    StepfoldError,
)
from stepfold_projections.http.problems import TITLES, Problem, ProblemError, problem_response

logger = logging.getLogger(__name__)

Model = TypeVar("Model", bound=BaseModel)

BODY_BYTES_MAX = 1_048_576
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


@dataclass(frozen=True, slots=True)
class Call:
    """What a handler is given: parsed, or not called at all."""

    path: Mapping[str, str]
    query: Any
    body: Any


Handler = Callable[[Call], Awaitable[BaseModel]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    method: str
    path: str
    summary: str
    handler: Handler
    response: type[BaseModel]
    query: type[BaseModel] | None = None
    body: type[BaseModel] | None = None
    status: int = 200
    errors: tuple[int, ...] = ()


def add_routes(app: web.Application, routes: list[Route]) -> None:
    for route in routes:
        add_route(app, route.method, route.path, _endpoint(route))


def add_route(
    app: web.Application,
    method: str,
    path: str,
    endpoint: Callable[[web.Request], Awaitable[web.StreamResponse]],
) -> None:
    """What answers GET answers HEAD as well."""
    if method == "GET":
        app.router.add_get(path, endpoint, allow_head=True)
    else:
        app.router.add_route(method, path, endpoint)


def _endpoint(route: Route) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def endpoint(request: web.Request) -> web.StreamResponse:
        call = Call(
            path=request.match_info,
            query=_query(request, route.query) if route.query is not None else None,
            body=await _body(request, route.body) if route.body is not None else None,
        )
        answer = await route.handler(call)
        return web.Response(
            status=route.status,
            text=answer.model_dump_json(by_alias=True),
            content_type="application/json",
        )

    return endpoint


def _query(request: web.Request, model: type[Model]) -> Model:
    fields = {(f.alias or name): f.annotation for name, f in model.model_fields.items()}
    given: dict[str, Any] = {}
    for name in request.query:
        values = request.query.getall(name)
        if "list[" in str(fields.get(name)):
            given[name] = [part for value in values for part in value.split(",") if part]
        elif len(values) > 1:
            raise ProblemError(422, f"{name} was given {len(values)} times; give it once")
        else:
            given[name] = values[0]
    return _validated(model, given, "query")


async def _body(request: web.Request, model: type[Model]) -> Model:
    raw = await request.read()
    if not raw:
        return _validated(model, {}, "body")
    if request.content_type != "application/json":
        raise ProblemError(
            415,
            f"the body is {request.content_type}; send JSON, with content-type application/json",
        )
    try:
        given = json.loads(raw)
    except ValueError as error:
        raise ProblemError(400, f"the body is not JSON: {error}") from error
    return _validated(model, given, "body")


def _validated(model: type[Model], given: object, where: str) -> Model:
    try:
        return model.model_validate(given)
    except ValidationError as error:
        errors = cast(
            "list[dict[str, Any]]",
            error.errors(include_url=False, include_context=False, include_input=False),
        )
        first = errors[0]
        place = ".".join(map(str, first["loc"])) or where
        raise ProblemError(422, f"{where}: {place}: {first['msg']}", errors=errors) from error


@web.middleware
async def problems(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Every error is an RFC 9457 document, whoever raised it."""
    try:
        _refuse_foreign_pages(request)
        return await handler(request)
    except ProblemError as error:
        return problem_response(error.problem)
    except web.HTTPException as error:
        if error.status < 400:
            raise
        return _plain(error.status, _why(error, request))
    except StepfoldError as error:
        return _plain(_status_of(error), str(error))
    except TimeoutError:
        return _plain(504, "Kafka did not answer in time; the request may still take effect")
    except Exception:
        logger.exception("request failed", extra={"path": request.path})
        return _plain(500, "an error that should not happen; the service's log has its stack")


_STATUSES: tuple[tuple[type[StepfoldError], int], ...] = (
    (NotFoundError, 404),
    (ConflictError, 409),
    (PayloadTooLargeError, 413),
    (PayloadError, 422),
    (KafkaError, 503),
)


def _status_of(error: StepfoldError) -> int:
    return next((status for kind, status in _STATUSES if isinstance(error, kind)), 500)


def _refuse_foreign_pages(request: web.Request) -> None:
    """A page of another site must not steer runs through its visitor's browser."""
    origin = request.headers.get("Origin")
    if request.method in SAFE_METHODS or origin is None:
        return
    if urlsplit(origin).netloc != request.host:
        raise ProblemError(403, f"requests from pages of {origin} are refused")


def _why(error: web.HTTPException, request: web.Request) -> str:
    match error.status:
        case 404:
            return f"there is no {request.path}; see /docs"
        case 405:
            allowed = ", ".join(sorted(cast("web.HTTPMethodNotAllowed", error).allowed_methods))
            return f"{request.path} does not take {request.method}, but {allowed}"
        case 413:
            return f"the body is larger than {BODY_BYTES_MAX} bytes; store it and pass a reference"
        case _:
            return error.text or error.reason


def _plain(status: int, detail: str) -> web.Response:
    return problem_response(
        Problem(title=TITLES.get(status, "Error"), status=status, detail=detail)
    )
