"""Values to JSON and back, by the types that the author declared.

Annotations are read once per function. A function without a return annotation takes
and gives whatever JSON can hold.
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import pydantic_core
from pydantic import PydanticSchemaGenerationError, TypeAdapter, ValidationError

from stepfold.core.errors import ConfigurationError, PayloadError

FUNCTIONS_CACHED_MAX = 4_096


def encode(value: Any, what: str) -> bytes:
    """JSON of any value that pydantic can serialise. Raises PayloadError that names `what`."""
    try:
        return pydantic_core.to_json(value)
    except (pydantic_core.PydanticSerializationError, ValueError, RecursionError) as error:
        raise PayloadError(
            f"{what} cannot be stored: {error}; use pydantic models, dataclasses or plain data"
        ) from error


def encode_as(adapter: TypeAdapter[Any], value: Any, what: str) -> bytes:
    """JSON of a value of the declared type. Raises PayloadError when it is of another."""
    try:
        return adapter.dump_json(value, warnings="error")
    except (pydantic_core.PydanticSerializationError, ValueError, RecursionError) as error:
        raise PayloadError(
            f"{what} is not what its annotation says, or cannot be stored: {error}"
        ) from error


def decode(payload: bytes) -> Any:
    """The plain value of a JSON payload. Raises PayloadError."""
    try:
        return pydantic_core.from_json(payload) if payload else None
    except ValueError as error:
        raise PayloadError(f"a recorded payload is not JSON: {error}") from error


@lru_cache(maxsize=FUNCTIONS_CACHED_MAX)
def result_adapter(function: Callable[..., Any]) -> TypeAdapter[Any]:
    """The adapter of what the function returns (of what it gives when awaited)."""
    return adapter_of(hints_of(function).get("return", Any), f"the result of {function!r}")


def type_adapter(annotation: Any) -> TypeAdapter[Any]:
    """The adapter of a type, made once for each."""
    return _type_adapter(annotation)


@lru_cache(maxsize=FUNCTIONS_CACHED_MAX)
def _type_adapter(annotation: Any) -> TypeAdapter[Any]:
    return adapter_of(annotation, f"the type {annotation!r}")


def adapter_of(annotation: Any, what: str) -> TypeAdapter[Any]:
    """Raises ConfigurationError for a type that pydantic cannot handle."""
    try:
        return TypeAdapter(annotation)
    except PydanticSchemaGenerationError as error:
        raise ConfigurationError(
            f"{what} is of a type that cannot be stored: {error}; "
            "use pydantic models, dataclasses, TypedDicts or plain data"
        ) from error


def hints_of(function: Callable[..., Any]) -> dict[str, Any]:
    """The annotations of a function, method or callable object; those that resolve."""
    target: Any = function
    while hasattr(target, "func"):
        target = target.func
    target = inspect.unwrap(target)
    if not inspect.isroutine(target):
        target = type(target).__call__
    try:
        return typing.get_type_hints(target)
    except (NameError, TypeError):
        return {}


__all__ = [
    "ValidationError",
    "adapter_of",
    "decode",
    "encode",
    "encode_as",
    "hints_of",
    "result_adapter",
    "type_adapter",
]
