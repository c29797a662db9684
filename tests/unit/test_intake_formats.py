"""What an inbox takes, and the reason it gives for each record that it does not."""

from __future__ import annotations

import dataclasses
import json
from typing import cast

import pytest

from stepfold.core.commands import Signal, Trigger
from stepfold.core.errors import CodecError
from stepfold.journal.codec import encode_command
from stepfold.journal.intake_formats import NAME_MAX, dlq_headers, read_trigger
from stepfold.journal.port import Headers, LogRecord
from tests.unit.codec_samples import sample

AT = 1_790_000_000_000
PLACE = "research.inbox/3/41"
BINARY: Headers = [("ce_specversion", b"1.0"), ("ce_type", b"agent/run"), ("ce_id", b"e-1")]


def record(value: bytes | None, headers: Headers | None = None) -> LogRecord:
    return LogRecord("research.inbox", 3, 41, 0, AT, b"key", value, headers or [])


def an_event(payload: bytes, event_id: str = "e-1") -> Trigger:
    return Trigger(
        name="agent/run",
        id=event_id,
        workflow="",
        payload=payload,
        payload_encoding="json",
        key_id="",
        idempotency_key="",
        sent_at=AT,
    )


def test_a_json_event_is_taken() -> None:
    value = b'{"name": "agent/run", "id": "e-1", "data": {"query": "\xc3\xa4"}, "user": 1}'

    assert read_trigger(record(value)) == an_event('{"query":"ä"}'.encode())


def test_an_event_without_an_id_is_named_by_its_place() -> None:
    value = b'{"name": "agent/run", "data": 1}'

    assert read_trigger(record(value)) == an_event(b"1", PLACE)


def test_an_event_without_data_has_null() -> None:
    assert read_trigger(record(b'{"name": "agent/run", "id": "e-1"}')) == an_event(b"null")


@pytest.mark.parametrize(
    "content_type", [None, b"application/json", b"application/json; charset=utf-8", b"a/b+json"]
)
def test_a_binary_cloud_event_is_taken(content_type: bytes | None) -> None:
    headers = BINARY if content_type is None else [*BINARY, ("Content-Type", content_type)]

    assert read_trigger(record(b'{"query": "q"}', headers)) == an_event(b'{"query":"q"}')


def test_a_binary_cloud_event_without_data_has_null() -> None:
    assert read_trigger(record(b"", BINARY)) == an_event(b"null")


def test_a_structured_cloud_event_is_taken_by_its_content_type() -> None:
    value = b'{"type": "agent/run", "id": "e-1", "source": "/s", "data": [1, 2.5]}'
    headers: Headers = [("content-type", b"application/cloudevents+json; charset=UTF-8")]

    assert read_trigger(record(value, headers)) == an_event(b"[1,2.5]")


def test_a_structured_cloud_event_is_known_by_its_specversion_too() -> None:
    value = b'{"specversion": "1.0", "type": "agent/run", "id": "e-1", "data": {}}'

    assert read_trigger(record(value)) == an_event(b"{}")


def test_a_header_without_a_value_is_not_there() -> None:
    headers = cast("Headers", [("ce_type", None), ("content-type", None)])
    value = b'{"name": "agent/run", "id": "e-1", "data": 1}'

    assert read_trigger(record(value, headers)) == an_event(b"1")


def test_an_avro_trigger_is_taken_as_it_is() -> None:
    whole: Trigger = sample(Trigger)
    trigger = dataclasses.replace(whole, payload=b"[1, 2]", payload_encoding="json", key_id="")

    assert read_trigger(record(encode_command(trigger))) == trigger


def test_an_avro_event_without_an_id_is_named_by_its_place_and_a_start_is_not() -> None:
    event = an_event(b"1", "")
    start = dataclasses.replace(event, workflow="agent")

    assert read_trigger(record(encode_command(event))).id == PLACE
    assert read_trigger(record(encode_command(start))).id == ""


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "no value"),
        (b"", "EOF while parsing"),
        (b"hello", "expected value at line 1 column 1"),
        (b'{"name": "a",\n "data": }', "line 2 column 10"),
        (b'{"name": "\xff"}', "not UTF-8 at byte 10"),
        (b"\x00\x00\x00\x00\x07abc", "schema registry"),
        (b'["agent/run"]', "list in place of"),
        (b'{"data": 1}', "no name"),
        (b'{"name": 5}', "no name"),
        (b'{"name": ""}', "empty name"),
        (b'{"name": "a", "id": 5}', "id of an event is text, got 5"),
        (b'{"name": "a", "data": NaN}', "line 1 column"),
        (b'{"name": "a", "data": 1e999}', "beyond 1.8e308"),
        (b'{"name": "a", "data": ' + b"[" * 500 + b"]" * 500 + b"}", "recursion limit"),
        (b'{"specversion": "1.0", "id": "1"}', "no type"),
        (b'{"specversion": "1.0", "type": "a", "data_base64": "AA=="}', "data_base64"),
        (json.dumps({"name": "a" * (NAME_MAX + 1)}).encode(), "name has 513 characters"),
        (json.dumps({"name": "a", "id": "i" * 600}).encode(), "id has 600 characters"),
        (b"\xc3\x01" + bytes(8), "unknown schema fingerprint 0000000000000000"),
        (encode_command(sample(Signal)), "Signal belongs on the control topic"),
    ],
)
def test_what_cannot_be_taken_is_refused_with_its_reason(value: bytes | None, reason: str) -> None:
    with pytest.raises(CodecError, match=reason):
        read_trigger(record(value))


@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        ([("ce_specversion", b"1.0")], "no ce_type"),
        ([("ce_type", b"\xff")], "header ce_type is not UTF-8"),
        ([*BINARY, ("content-type", b"image/png")], "content-type is image/png"),
        ([("content-type", b"application/cloudevents-batch+json")], "a batch of CloudEvents"),
    ],
)
def test_a_cloud_event_that_cannot_be_taken_gives_its_reason(headers: Headers, reason: str) -> None:
    with pytest.raises(CodecError, match=reason):
        read_trigger(record(b"[]", headers))


def test_the_text_infinity_is_no_number() -> None:
    value = b'{"name": "agent/run", "id": "e-1", "data": "Infinity"}'

    assert read_trigger(record(value)) == an_event(b'"Infinity"')


def test_a_dlq_record_says_where_it_came_from_and_why() -> None:
    headers = dlq_headers(record(b"x", [("trace", b"t"), ("dlq-offset", b"1")]), "not \ud800 JSON")

    assert headers == [
        ("trace", b"t"),
        ("dlq-topic", b"research.inbox"),
        ("dlq-partition", b"3"),
        ("dlq-offset", b"41"),
        ("dlq-timestamp", b"1790000000000"),
        ("dlq-exception-message", b"not ? JSON"),
    ]
