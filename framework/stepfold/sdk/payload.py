"""Values to JSON and back, by the types that the author declared.

Annotations are read once per function. A function without a return annotation takes
and gives whatever JSON can hold. Payloads are written with the names of fields, and read
with names and aliases alike: what was written can be read, whatever aliases a model has.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from types import FunctionType
from typing import Any
from weakref import WeakKeyDictionary

import pydantic_core
from pydantic import ConfigDict, PydanticUserError, TypeAdapter, ValidationError

from stepfold.core.errors import ConfigurationError, PayloadError, PayloadTooLargeError
from stepfold.sdk.failures import bounded, failure_of, problems_of, shown
from stepfold.sdk.functions import place_of, return_type, underlying

TYPES_CACHED_MAX = 4_096
PAYLOAD_BYTES_MAX = 900_000
"""The largest payload that fits into one event (rule R20)."""
JSON_AS_WRITTEN = ConfigDict(
    ser_json_bytes="base64", val_json_bytes="base64", ser_json_inf_nan="strings"
)
"""So that any bytes and floats come back; models and dataclasses have settings of their own."""


def encode(value: Any, what: str) -> bytes:
    """JSON of any value that pydantic can serialise. Raises PayloadError that names `what`."""
    try:
        payload = pydantic_core.to_json(value, inf_nan_mode="strings", bytes_mode="base64")
    except BaseException as error:  # serialisers are the author's code
        raise PayloadError(
            f"{what} cannot be stored: {_why(error)}; use pydantic models, dataclasses or plain "
            "data"
        ) from error
    if len(payload) > PAYLOAD_BYTES_MAX:
        raise PayloadTooLargeError(what, len(payload), PAYLOAD_BYTES_MAX)
    return payload


def encode_as(adapter: TypeAdapter[Any], value: Any, what: str) -> bytes:
    """JSON of a value of the declared type, of which it is sure that it can be read back.

    Raises PayloadError when the value is of another type.
    """
    try:
        payload = adapter.dump_json(value, by_alias=False, warnings="error")
        read(adapter, payload)
    except BaseException as error:  # serialisers are the author's code
        raise PayloadError(
            f"{what} is not what its annotation says, {type_name(adapter)}, or cannot be stored: "
            f"{_why(error)}; it is {shown(value)}"
        ) from error
    return payload


def read(adapter: TypeAdapter[Any], payload: bytes) -> Any:
    """The value of a payload. Raises PayloadError that says what does not fit."""
    try:
        return adapter.validate_json(payload or b"null", by_alias=True, by_name=True)
    except BaseException as error:  # validators are the author's code
        raise PayloadError(_why(error)) from error


def decode(payload: bytes) -> Any:
    """The plain value of a JSON payload. Raises PayloadError."""
    try:
        return pydantic_core.from_json(payload) if payload else None
    except ValueError as error:
        raise PayloadError(f"a recorded payload is not JSON: {error}") from error


def decode_or_none(payload: bytes) -> Any:
    """The plain value of a JSON payload; None for what is no JSON."""
    try:
        return decode(payload)
    except PayloadError:
        return None


_result_adapters: WeakKeyDictionary[Callable[..., Any], TypeAdapter[Any]] = WeakKeyDictionary()


def result_adapter(
    function: Callable[..., Any], names: Mapping[str, Any] | None = None
) -> TypeAdapter[Any]:
    """The adapter of what the function gives when called and awaited.

    names: further ones for its annotation. Raises UnresolvedError for an annotation that
    does not resolve, ConfigurationError for one that cannot be stored.
    """
    target = underlying(function)
    # Weakly: a function made in a workflow holds on to whatever the workflow has. And not at
    # all for those of C, which cannot be referred to so, and have no annotations.
    is_cached = isinstance(target, FunctionType)
    adapter = _result_adapters.get(target) if is_cached else None
    if adapter is None:
        annotation = return_type(target, names)
        adapter = type_adapter(annotation, f"the result of {place_of(target)}")
        if is_cached:
            _result_adapters[target] = adapter
    return adapter


def type_adapter(annotation: Any, what: str) -> TypeAdapter[Any]:
    """Made once for each type. Raises ConfigurationError for one that cannot be stored."""
    try:
        try:
            return _cached_adapter(annotation)
        except TypeError:  # unhashable, as the metadata of Annotated may be
            return _adapter(annotation)
    except Exception as error:  # types bring code of their own
        raise ConfigurationError(
            f"{what} is of a type that cannot be stored: {_first_line(error)}; "
            "use pydantic models, dataclasses, TypedDicts or plain data"
        ) from error


@lru_cache(maxsize=TYPES_CACHED_MAX)
def _cached_adapter(annotation: Any) -> TypeAdapter[Any]:
    return _adapter(annotation)


def _adapter(annotation: Any) -> TypeAdapter[Any]:
    try:
        return TypeAdapter(annotation, config=JSON_AS_WRITTEN)
    except PydanticUserError as error:
        if error.code != "type-adapter-config-unused":
            raise
        return TypeAdapter(annotation)


def type_name(adapter: TypeAdapter[Any]) -> str:
    return bounded(repr(adapter).removeprefix("TypeAdapter(").removesuffix(")"), 500)


def _why(error: BaseException) -> str:
    if isinstance(error, ValidationError):
        return problems_of(error)
    failure = failure_of(error)
    if isinstance(error, PayloadError | pydantic_core.PydanticSerializationError):
        return failure.message
    return bounded(f"{failure.error_type}: {failure.message}")


def _first_line(error: Exception) -> str:
    """What is wrong with a type; the advice that pydantic adds is for authors of types."""
    return failure_of(error).message.splitlines()[0].partition(". Set `arbitrary")[0]
