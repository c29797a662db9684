"""What workflows and steps are given and give comes back as the type that is declared."""

from __future__ import annotations

import enum
import gc
import math
import sys
import typing
import uuid
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any, Literal, NotRequired, cast

import pytest
from pydantic import BaseModel, ConfigDict, Field, SecretBytes
from typing_extensions import TypedDict

from stepfold import App, Event, current_run, step
from stepfold.core.errors import ConfigurationError, PayloadError, PayloadTooLargeError
from stepfold.sdk.calls import StepCall
from stepfold.sdk.payload import PAYLOAD_BYTES_MAX, encode, encode_as, read, type_adapter
from tests.unit.sdk.played import Play, play


class Question(BaseModel):
    query: str
    limit: int = 10


@dataclass
class Account:
    id: str
    since: date


class Options(TypedDict):
    deep: bool
    note: NotRequired[str]


class Colour(enum.Enum):
    RED = "red"


class Aliased(BaseModel):
    account_id: int = Field(alias="accountId")
    asked_as: int = Field(validation_alias="askedAs")
    told_as: int = Field(serialization_alias="toldAs")


def run(function: Callable[..., Coroutine[Any, Any, Any]], data: Any = None, **more: Any) -> Play:
    return play(App("payloads").workflow(function), data, **more)


async def takes_model(question: Question) -> str:
    return f"{type(question).__name__} {question.query} {question.limit}"


async def takes_dataclass(account: Account) -> str:
    return f"{type(account).__name__} {account.since.year}"


async def takes_typed_dict(options: Options) -> list[str]:
    return list(options)


async def takes_anything(data: Any) -> str:
    return type(data).__name__


# As authors without a type checker write it; this repository has two.
UNTYPED: dict[str, Any] = {}
exec("async def takes_without_annotation(data): return type(data).__name__", UNTYPED)


async def takes_optional(question: Question | None) -> bool:
    return question is None


async def takes_default(question: Question = Question(query="default")) -> str:  # noqa: B008
    return question.query


async def takes_event(event: Event[Question]) -> str:
    return f"{event.name} {event.data.query if event.data else ''}"


async def takes_bare_event(event: Event[Any]) -> str:
    return f"{event.name} {event.data}"


async def takes_nothing() -> Any:
    return current_run().event.data


@pytest.mark.parametrize(
    ("function", "data", "expected"),
    [
        (takes_model, {"query": "tides"}, "Question tides 10"),
        (takes_dataclass, {"id": "a1", "since": "2027-01-02"}, "Account 2027"),
        (takes_typed_dict, {"deep": True}, ["deep"]),
        (takes_anything, {"query": "tides"}, "dict"),
        (UNTYPED["takes_without_annotation"], [1], "list"),
        (takes_optional, None, True),
        (takes_default, None, "default"),
        (takes_default, {"query": "tides"}, "tides"),
        (takes_event, {"query": "tides"}, "asked tides"),
        (takes_bare_event, 5, "asked 5"),
        (takes_nothing, {"query": "tides"}, {"query": "tides"}),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_workflow_gets_the_data_as_it_declares_it(function: Any, data: Any, expected: Any) -> None:
    assert run(function, data, event_name="asked").result == expected


@pytest.mark.parametrize(
    ("function", "data", "reason"),
    [
        (takes_model, {"limit": "many"}, "at query: Field required, got {'limit': 'many'}; at lim"),
        (takes_model, None, "Input should be an object, got None"),
        (takes_event, {"query": 5}, "at query: Input should be a valid string, got 5"),
        (takes_typed_dict, [], "Input should be an object"),
        (takes_default, {"limit": 5}, "at query: Field required"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_data_of_another_type_fails_the_run_and_says_where(
    function: Any, data: Any, reason: str
) -> None:
    error = run(function, data).error

    assert error.error_type == "InvalidInput"
    assert f"invalid input of workflow {function.__name__!r}: " in error.error_message
    assert reason in error.error_message


RESULTS: list[tuple[Any, Any]] = [
    (Question, Question(query="tides")),
    (Account, Account("a1", date(2027, 1, 2))),
    (Options, {"deep": True, "note": "x"}),
    (list[Question], [Question(query="tides")]),
    (bytes, b"\x00\xff\xfe not UTF-8"),
    (dict[str, bytes], {"image": b"\xff"}),
    (datetime, datetime(2027, 1, 2, 3, 4, 5, 678_901, tzinfo=UTC)),
    (timedelta, timedelta(days=1, microseconds=1)),
    (set[str], {"a", "b"}),
    (frozenset[int], frozenset({1, 2})),
    (tuple[int, str], (1, "a")),
    (float, math.inf),
    (Decimal, Decimal("0.10")),
    (uuid.UUID, uuid.UUID(int=5)),
    (Colour, Colour.RED),
    (Literal["yes", "no"], "yes"),
    (int | None, None),
    (None, None),
    (Aliased, Aliased.model_validate({"accountId": 1, "askedAs": 2, "told_as": 3})),
    (Annotated[int, Field(gt=0, json_schema_extra={"unhashable": []})], 5),
    (Event[Question], Event[Question]("asked", data=Question(query="tides"))),
    (Any, {"a": [1, 2.5, None, "x"]}),
]


@pytest.mark.parametrize(("annotation", "value"), RESULTS, ids=lambda value: str(value)[:30])
def test_result_comes_back_as_its_declared_type(annotation: Any, value: Any) -> None:
    adapter = type_adapter(annotation, "the result")

    back = read(adapter, encode_as(adapter, value, "the result"))

    assert back == value
    assert type(back) is type(value)


def test_number_that_is_none_comes_back() -> None:
    adapter = type_adapter(float, "the result")

    assert math.isnan(read(adapter, encode_as(adapter, math.nan, "the result")))


class Lossy(BaseModel):
    token: str = Field(exclude=True)


class Unstorable:
    def __repr__(self) -> str:
        return "an open socket"


@pytest.mark.parametrize(
    ("annotation", "value", "reason"),
    [
        (list[str], ("a",), "Expected `list[str]`"),
        (bool, 1, "Expected `bool`"),
        (Question, {"query": "x"}, "it is {'query': 'x'}"),
        (int, None, "Input should be a valid integer, got None"),
        (Lossy, Lossy(token="x"), "at token: Field required"),
        (Any, Unstorable(), "it is an open socket"),
        (str, "\ud83d", "surrogates not allowed"),
        (Annotated[int, Field(gt=0)], -5, "greater than 0, got -5"),
    ],
    ids=lambda value: ascii(value)[:30],
)
def test_result_of_another_type_is_an_error_that_shows_it(
    annotation: Any, value: Any, reason: str
) -> None:
    adapter = type_adapter(annotation, "the result")

    with pytest.raises(PayloadError) as caught:
        encode_as(adapter, value, "the result of step 'x'")

    assert str(caught.value).startswith("the result of step 'x' is not what its annotation says, ")
    assert reason in str(caught.value)


def test_step_that_returns_another_type_than_it_declares_fails() -> None:
    @step
    async def count() -> int:
        return cast("int", "many")

    async def workflow() -> int:
        return await count()

    error = run(workflow).error

    assert error.error_type == "StepFailed"
    assert "PayloadError: the result of step 'count' is not what its annotation says, int" in (
        error.error_message
    )


def test_workflow_that_returns_another_type_than_it_declares_fails() -> None:
    async def workflow() -> int:
        return cast("int", ["many"])

    error = run(workflow).error

    assert error.error_type == "PayloadError"
    assert "the result of workflow 'workflow' is not what its annotation says, int" in (
        error.error_message
    )


def test_workflow_that_forgets_to_await_its_last_step_fails() -> None:
    @step
    async def count() -> int:
        return 1

    async def workflow() -> Any:
        return count()

    def run_and_collect() -> str:
        message = run(workflow).error.error_message
        gc.collect()
        return message

    with pytest.warns(RuntimeWarning, match="never awaited"):
        message = run_and_collect()

    assert "coroutine object" in message


def test_result_of_a_run_is_read_with_names_and_with_aliases() -> None:
    async def workflow() -> Aliased:
        return Aliased.model_validate({"account_id": 1, "asked_as": 2, "told_as": 3}, by_name=True)

    definition = App("payloads").workflow(workflow)
    recorded = play(definition)

    assert recorded.result == {"account_id": 1, "asked_as": 2, "told_as": 3}
    assert definition.result_of(b'{"accountId": 1, "askedAs": 2, "told_as": 3}').asked_as == 2


def input_of(*args: Any, **kwargs: Any) -> bytes:
    @step
    async def take(*args: Any, **kwargs: Any) -> None: ...

    async def workflow() -> None:
        await take(*args, **kwargs)

    instance = Play(App("inputs").workflow(workflow)).instance()
    (call,) = instance.activate(None, replaying=False).calls
    instance.close()
    assert isinstance(call, StepCall)
    return call.encode_input()


def test_input_of_a_step_is_recorded_by_position_and_name() -> None:
    recorded = input_of(Question(query="tides"), since=date(2027, 1, 2), image=b"\xff")

    assert recorded == (
        b'{"args":[{"query":"tides","limit":10}],"kwargs":{"since":"2027-01-02","image":"_w=="}}'
    )


def test_input_that_cannot_be_stored_names_the_step() -> None:
    with pytest.raises(PayloadError, match="the input of step 'take' cannot be stored"):
        input_of(Unstorable())


def test_input_that_fits_into_no_event_is_refused_with_both_sizes() -> None:
    with pytest.raises(PayloadTooLargeError) as caught:
        input_of("x" * PAYLOAD_BYTES_MAX)

    assert caught.value.size_bytes > caught.value.limit_bytes == PAYLOAD_BYTES_MAX


def test_serialiser_that_ends_the_program_is_an_error_of_the_payload() -> None:
    class Stubborn(BaseModel):
        model_config = ConfigDict(arbitrary_types_allowed=True)

        @property
        def broken(self) -> str:
            raise SystemExit

        def __iter__(self) -> Any:
            raise SystemExit("no")

    with pytest.raises(PayloadError, match="the input cannot be stored"):
        encode({"x": Unstorable(), "y": Stubborn()}, "the input")


def test_secret_that_would_not_come_back_is_no_result() -> None:
    adapter = type_adapter(SecretBytes, "the result")

    with pytest.raises(PayloadError) as caught:
        encode_as(adapter, SecretBytes(b"hush"), "the result")

    assert "hush" not in str(caught.value)


class Unsupported(typing.TypedDict):
    deep: bool


def test_typed_dict_that_pydantic_cannot_read_is_refused_with_the_remedy() -> None:
    if sys.version_info >= (3, 12):
        assert type_adapter(Unsupported, "the result")
    else:
        with pytest.raises(ConfigurationError, match=r"use `typing_extensions\.TypedDict`"):
            type_adapter(Unsupported, "the result")
