"""The schemas say what the classes say, and every field says what it means."""

from __future__ import annotations

import dataclasses
import json
from typing import Any, get_type_hints

import pytest

from stepfold.core import events as e
from stepfold.core.commands import COMMAND_TYPES
from stepfold_topics import schemas

ENVELOPE = ("epoch_offset", "epoch_nonce", "seq", "at", "run_id", "tenant")
SOURCE = ("src_topic_id", "src_partition", "src_offset", "src_leader_epoch")
SPREAD = {
    "source": SOURCE,
    "origin": ("from_shard", "from_n"),
    "parent": ("parent_shard", "parent_run_id", "parent_step"),
}
"""Fields of the classes that are several in the schema."""
AVRO_TYPES = {
    int: ("long",),
    str: ("string",),
    bytes: ("bytes",),
    bool: ("boolean",),
}
TIMES = {"at", "due", "next_at", "timeout_at", "expires_at", "ttl_at", "sent_at", "deadline"}


def schema_of(name: str) -> dict[str, Any]:
    schema: dict[str, Any] = json.loads(schemas.present()[name])
    return schema


def field_names(schema: dict[str, Any]) -> tuple[str, ...]:
    return tuple(field["name"] for field in schema["fields"])


def class_fields(cls: type[Any]) -> tuple[str, ...]:
    names: list[str] = []
    for field in dataclasses.fields(cls):
        names += SPREAD.get(field.name, (field.name,))
    return tuple(names)


def test_there_is_one_schema_for_each_class_and_none_besides() -> None:
    kinds = {cls.__name__ for cls in (*e.EVENT_TYPES, *COMMAND_TYPES)}

    assert set(schemas.present()) == kinds


@pytest.mark.parametrize("cls", e.EVENT_TYPES)
def test_an_event_has_the_envelope_and_then_the_fields_of_its_class(cls: type[Any]) -> None:
    own = tuple(name for name in class_fields(cls) if name != "run_id")

    assert field_names(schema_of(cls.__name__)) == ENVELOPE + own


@pytest.mark.parametrize("cls", COMMAND_TYPES)
def test_a_command_has_the_fields_of_its_class_and_no_envelope(cls: type[Any]) -> None:
    assert field_names(schema_of(cls.__name__)) == class_fields(cls)


def run_start() -> dict[str, Any]:
    fields = schema_of("RunAccepted")["fields"]
    (runs,) = (field for field in fields if field["name"] == "runs")
    record: dict[str, Any] = runs["type"]["items"]
    return record


def test_a_run_start_has_the_fields_of_its_class() -> None:
    record = run_start()

    assert record["name"] == "RunStart"
    assert field_names(record) == e.RunStart._fields


@pytest.mark.parametrize("cls", [*e.EVENT_TYPES, *COMMAND_TYPES, e.RunStart])
def test_each_field_has_the_type_of_its_class(cls: type[Any]) -> None:
    record = run_start() if cls is e.RunStart else schema_of(cls.__name__)
    written = {field["name"]: field["type"] for field in record["fields"]}

    for name, hint in get_type_hints(cls).items():
        if name in SPREAD:
            inner = get_type_hints(hint).values()
            assert [(written[each],) for each in SPREAD[name]] == [AVRO_TYPES[t] for t in inner]
        elif name == "body":
            assert written[name] == "bytes"
        elif name not in ("runs", "out"):
            kind = written[name]["type"] if isinstance(written[name], dict) else written[name]
            assert kind in AVRO_TYPES[hint], f"{cls.__name__}.{name}"


@pytest.mark.parametrize("name", sorted(schemas.present()))
def test_times_are_marked_as_times_and_nothing_else_is(name: str) -> None:
    marked = {
        field["name"]
        for field in schema_of(name)["fields"]
        if isinstance(field["type"], dict) and "logicalType" in field["type"]
    }

    assert marked == TIMES & set(field_names(schema_of(name)))


@pytest.mark.parametrize("name", sorted(schemas.present()))
def test_a_record_and_each_of_its_fields_say_what_they_mean(name: str) -> None:
    schema = schema_of(name)

    assert (schema["namespace"], schema["name"]) == ("stepfold.v1", name)
    assert all(record["doc"].endswith(".") for record in records_in(schema))
    assert all(field["doc"].endswith(".") for r in records_in(schema) for field in r["fields"])


@pytest.mark.parametrize("name", sorted(schemas.present()))
def test_no_field_is_a_union(name: str) -> None:
    for record in records_in(schema_of(name)):
        assert not [field["name"] for field in record["fields"] if isinstance(field["type"], list)]


def records_in(schema: dict[str, Any]) -> list[dict[str, Any]]:
    inner = [
        field["type"]["items"]
        for field in schema["fields"]
        if isinstance(field["type"], dict) and field["type"]["type"] == "array"
    ]
    return [schema, *inner]
