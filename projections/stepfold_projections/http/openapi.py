"""The OpenAPI 3.1 document, and a page to read it, from the routes alone."""

from __future__ import annotations

import html
from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from stepfold_projections.http.problems import PROBLEM_TYPE, TITLES, Problem
from stepfold_projections.http.routes import Route

REF = "#/components/schemas/{model}"


def document(routes: list[Route], version: str) -> dict[str, Any]:
    answers = {route.response: None for route in routes} | {Problem: None}
    bodies = {route.body: None for route in routes if route.body is not None}
    _, schemas = models_json_schema(
        [
            *((model, "serialization") for model in answers),
            *((model, "validation") for model in bodies),
        ],
        ref_template=REF,
        by_alias=True,
    )
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "stepfold",
            "version": version,
            "description": "Runs and their traces, projected from the log; and requests to it.",
        },
        "paths": paths,
        "components": {"schemas": schemas["$defs"]},
    }


def page(spec: dict[str, Any]) -> str:
    """The document as a page of its own, with nothing from elsewhere."""
    items = "\n".join(_item(path, method, op) for path, method, op in _operations(spec))
    return (
        "<!doctype html><meta charset=utf-8><title>stepfold API</title>"
        "<style>body{font:15px/1.5 system-ui;max-width:60rem;margin:2rem auto;padding:0 1rem;"
        "color-scheme:light dark}code{font-size:14px}dt{margin-top:1.2rem}"
        "b{display:inline-block;min-width:4rem}</style>"
        f"<h1>stepfold {html.escape(spec['info']['version'])}</h1>"
        '<p>Machine-readable: <a href="/openapi.json">/openapi.json</a>. '
        "Errors are RFC 9457 problem details.</p>"
        f"<dl>{items}</dl>"
    )


def _item(path: str, method: str, operation: dict[str, Any]) -> str:
    names = ", ".join(
        f"<code>{html.escape(p['name'])}</code>"
        for p in operation.get("parameters", ())
        if p["in"] == "query"
    )
    query = f"<br>Query: {names}" if names else ""
    return (
        f"<dt><b>{method.upper()}</b> <code>{html.escape(path)}</code></dt>"
        f"<dd>{html.escape(operation['summary'])}{query}</dd>"
    )


def _operations(spec: dict[str, Any]) -> Iterable[tuple[str, str, dict[str, Any]]]:
    for path, methods in spec["paths"].items():
        for method, operation in methods.items():
            yield path, method, operation


def _operation(route: Route) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "summary": route.summary,
        "operationId": _operation_id(route),
        "parameters": [*_path_parameters(route), *_query_parameters(route)],
        "responses": {
            str(route.status): {
                "description": "Done.",
                "content": _json(route.response),
            },
            **{
                str(status): {
                    "description": TITLES[status],
                    "content": {PROBLEM_TYPE: {"schema": {"$ref": REF.format(model="Problem")}}},
                }
                for status in _errors(route)
            },
        },
    }
    if route.body is not None:
        required = any(field.is_required() for field in route.body.model_fields.values())
        operation["requestBody"] = {"required": required, "content": _json(route.body)}
    return operation


def _errors(route: Route) -> list[int]:
    takes = route.query is not None or route.body is not None
    return sorted({*route.errors, 422} if takes else {*route.errors})


def _operation_id(route: Route) -> str:
    words = [part for part in route.path.split("/") if part not in ("api", "v1", "")]
    return "_".join([route.method.lower(), *(word.strip("{}") for word in words)])


def _path_parameters(route: Route) -> list[dict[str, Any]]:
    return [
        {"name": part[1:-1], "in": "path", "required": True, "schema": {"type": "string"}}
        for part in route.path.split("/")
        if part.startswith("{")
    ]


def _query_parameters(route: Route) -> list[dict[str, Any]]:
    if route.query is None:
        return []
    schema = route.query.model_json_schema(by_alias=True)
    return [
        {
            "name": name,
            "in": "query",
            "required": name in schema.get("required", ()),
            "schema": field,
            **({"description": field["description"]} if "description" in field else {}),
        }
        for name, field in schema["properties"].items()
    ]


def _json(model: type[BaseModel]) -> dict[str, Any]:
    return {"application/json": {"schema": {"$ref": REF.format(model=model.__name__)}}}
