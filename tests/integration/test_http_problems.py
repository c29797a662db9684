"""What the HTTP API answers to requests that are wrong: RFC 9457, and never a 5xx of its own."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, cast

import aiohttp
import pytest

from tests.integration.test_projection_service import TIMEOUT_S, UNKNOWN_RUN, serving

RUN = f"/api/v1/runs/{UNKNOWN_RUN}"
JSON = {"Content-Type": "application/json"}
TOO_LARGE = b" " * 2_000_000

WRONG: list[tuple[str, str, dict[str, Any], int, str]] = [
    ("GET", "/nowhere", {}, 404, "there is no /nowhere"),
    ("PUT", "/api/v1/runs", {}, 405, "does not take PUT, but GET, HEAD"),
    ("GET", "/api/v1/runs?colour=red", {}, 422, "colour"),
    ("GET", "/api/v1/runs?status=happy", {}, 422, "status.0"),
    ("GET", "/api/v1/runs?limit=0", {}, 422, "limit"),
    ("GET", "/api/v1/runs?limit=1&limit=2", {}, 422, "limit was given 2 times"),
    ("GET", "/api/v1/runs?from=yesterday", {}, 422, "from"),
    ("GET", "/api/v1/runs?from=2026-01-01T00:00:00", {}, 422, "has no time zone"),
    ("GET", "/api/v1/runs?cursor=x", {}, 400, "not a cursor"),
    ("GET", "/api/v1/runs?q=1", {}, 501, "not in this version"),
    ("GET", "/api/v1/runs?after=x", {}, 400, "not a position"),
    ("GET", "/api/v1/runs?after=nobody.inbox/0/5&timeout=0.05", {}, 504, "did not pass"),
    ("GET", "/api/v1/runs/nonsense", {}, 404, "not a run id"),
    ("GET", RUN, {}, 404, "there is no run"),
    ("GET", f"{RUN}/events?limit=x", {}, 422, "limit"),
    ("GET", f"{RUN}/stream", {}, 501, "not in this version"),
    ("POST", f"{RUN}/replay", {}, 501, "not in this version"),
    ("POST", f"{RUN}/cancel", {}, 404, "no app at Kafka"),
    ("POST", f"{RUN}/signal", {"json": {}}, 422, "name"),
    ("POST", f"{RUN}/signal", {"json": {"name": "x", "colour": 1}}, 422, "colour"),
    ("POST", f"{RUN}/signal", {"json": [1]}, 422, "body"),
    ("POST", "/api/v1/runs/nonsense/cancel", {}, 404, "not a run id"),
    ("POST", "/api/v1/apps/nobody/events", {"json": {"name": "x"}}, 404, "topics apply nobody"),
    ("POST", "/api/v1/apps/nobody/workflows/w/runs", {}, 404, "there is no app 'nobody'"),
    ("POST", f"{RUN}/cancel", {"data": b"{", "headers": JSON}, 400, "not JSON"),
    ("POST", f"{RUN}/cancel", {"data": b"\xff\xfe", "headers": JSON}, 400, "not JSON"),
    ("POST", f"{RUN}/cancel", {"data": "reason=x"}, 415, "send JSON"),
    (
        "POST",
        f"{RUN}/cancel",
        {"data": io.BytesIO(TOO_LARGE), "headers": JSON},
        413,
        "larger",
    ),
    ("POST", f"{RUN}/cancel", {"headers": {"Origin": "http://evil.test"}}, 403, "evil.test"),
]


@pytest.fixture
def asked(kafka_bootstrap: str, tmp_path: Path) -> Callable[[Any], Any]:
    """Runs a coroutine function with a session for a running service."""

    def run(scenario: Any) -> Any:
        async def main() -> Any:
            store = f"sqlite:///{tmp_path / 'traces.db'}"
            async with (
                asyncio.timeout(TIMEOUT_S),
                serving(kafka_bootstrap, store) as address,
                aiohttp.ClientSession(address) as api,
            ):
                return await scenario(api)

        return asyncio.run(main())

    return run


def test_each_wrong_request_gets_a_problem_that_says_what_is_wrong(
    asked: Callable[[Any], Any],
) -> None:
    async def ask(api: aiohttp.ClientSession) -> list[str]:
        found: list[str] = []
        for method, path, more, status, words in WRONG:
            async with api.request(method, path, **more) as answer:
                text = await answer.text()
                problem = json.loads(text)
                is_so = (
                    answer.status == status == problem["status"]
                    and answer.content_type == "application/problem+json"
                    and words in problem["detail"]
                )
                if not is_so:
                    found.append(f"{method} {path}: {answer.status} {text}, not {status} {words}")
        return found

    assert asked(ask) == []


def test_openapi_document_is_whole_and_names_every_route(asked: Callable[[Any], Any]) -> None:
    async def ask(api: aiohttp.ClientSession) -> tuple[dict[str, Any], str]:
        async with api.get("/openapi.json") as document, api.get("/docs") as page:
            return await document.json(), await page.text()

    spec, page = asked(ask)

    assert spec["openapi"] == "3.1.0"
    assert set(_references(spec)) <= {
        f"#/components/schemas/{name}" for name in spec["components"]["schemas"]
    }
    assert "/api/v1/runs/{id}/signal" in spec["paths"]
    ids = [op["operationId"] for methods in spec["paths"].values() for op in methods.values()]
    assert len(ids) == len(set(ids))
    for path in spec["paths"]:
        assert path in page
    assert "http" not in page.replace("HTTP", "")


def _references(node: Any) -> list[str]:
    if isinstance(node, dict):
        mapping = cast("dict[str, Any]", node)
        own = [mapping["$ref"]] if isinstance(mapping.get("$ref"), str) else []
        return own + [ref for value in mapping.values() for ref in _references(value)]
    if isinstance(node, list):
        return [ref for item in cast("Iterable[Any]", node) for ref in _references(item)]
    return []
