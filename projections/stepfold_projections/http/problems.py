"""Errors as RFC 9457 problem details: what happened, with the values, and what to do."""

from __future__ import annotations

from typing import Any

from aiohttp import web
from pydantic import BaseModel, ConfigDict

PROBLEM_TYPE = "application/problem+json"
TITLES = {
    400: "Bad request",
    403: "Forbidden",
    404: "Not found",
    405: "Method not allowed",
    409: "Conflict",
    413: "Too large",
    415: "Unsupported media type",
    422: "Invalid",
    500: "Internal error",
    501: "Not in this version",
    503: "Unavailable",
    504: "Timed out",
}


class Problem(BaseModel):
    """Further members carry the facts, such as `existing_run_id`."""

    model_config = ConfigDict(extra="allow")

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    errors: list[dict[str, Any]] | None = None


class ProblemError(Exception):
    """Raised by handlers; the middleware turns it into an answer."""

    def __init__(
        self, status: int, detail: str, *, errors: list[dict[str, Any]] | None = None, **facts: Any
    ) -> None:
        super().__init__(detail)
        self.problem = Problem(
            title=TITLES.get(status, "Error"), status=status, detail=detail, errors=errors, **facts
        )


def problem_response(problem: Problem) -> web.Response:
    return web.Response(
        status=problem.status,
        text=problem.model_dump_json(exclude_none=True),
        content_type=PROBLEM_TYPE,
    )
