"""What users may put on an inbox: JSON, CloudEvents in both modes, or the Avro Trigger.

The value of `data` is taken over as JSON bytes, written anew: a number may lose digits
that no double holds, and of equal keys the last counts. Missing data is null, not {},
so that a workflow can tell "nothing" from "an empty object". An event without an id
gets one from its place in the log, which is the same at every re-reading.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

import pydantic_core

from stepfold.core.commands import Trigger
from stepfold.core.errors import CodecError
from stepfold.journal.codec import decode_command, is_single_object
from stepfold.journal.port import UNREADABLE_HEADERS, Headers, LogRecord

NAME_MAX = 512
"""Characters of an event's name or id, of a workflow's name and an idempotency key."""
PAYLOAD_BYTES_MAX = 900_000
"""The data of an event as JSON: what fits into one record of the history (rule R20)."""
REASON_MAX = 2_000
ENCODING_SHOWN_MAX = 40
CLOUD_EVENTS_JSON = "application/cloudevents+json"
CLOUD_EVENTS_BATCH = "application/cloudevents-batch"
REGISTRY_FRAMING = 0  # the first byte of what a schema registry's serialisers write


def read_trigger(record: LogRecord) -> Trigger:
    """Raises CodecError that says what is wrong with the record."""
    value = record.value
    if value is None:
        raise CodecError("the record has no value")
    if record.headers is UNREADABLE_HEADERS:
        raise CodecError("the name of a header is not UTF-8; the headers are missing in the copy")
    if is_single_object(value):
        return _avro_trigger(record, value)
    headers = _headers(record)
    if "ce_type" in headers or "ce_specversion" in headers:
        return _binary_cloud_event(record, headers, value)
    content_type = _content_type(headers)
    if content_type.startswith(CLOUD_EVENTS_BATCH):
        raise CodecError("a batch of CloudEvents; send each event in a record of its own")
    body = _json_object(value)
    if "specversion" in body or content_type.startswith(CLOUD_EVENTS_JSON):
        if "data_base64" in body:
            raise CodecError("the CloudEvent has data_base64, and the data of an event is JSON")
        return _trigger(record, body.get("type"), body.get("id"), body.get("data"), "type")
    return _trigger(record, body.get("name"), body.get("id"), body.get("data"), "name")


def unreadable_payload(payload: bytes, encoding: str, key_id: str) -> str | None:
    """Why the payload of an Avro record cannot be taken; None: it can."""
    if key_id:
        return "the payload is sealed, and this version of stepfold opens none"
    if encoding == "none" and not payload:
        return None
    if encoding != "json":
        shown = repr(encoding[:ENCODING_SHOWN_MAX])
        return f"the payload is of encoding {shown}, and this version of stepfold takes json only"
    try:
        pydantic_core.from_json(payload, allow_inf_nan=False)
    except ValueError as error:
        return f"the payload is not JSON: {error}"
    return None


def dlq_headers(record: LogRecord, reason: str) -> Headers:
    """The record's own headers, and where it came from and why it is here."""
    ours: Headers = [
        ("dlq-topic", record.topic.encode()),
        ("dlq-partition", b"%d" % record.partition),
        ("dlq-offset", b"%d" % record.offset),
        ("dlq-timestamp", b"%d" % record.timestamp),
        ("dlq-exception-message", reason[:REASON_MAX].encode(errors="replace")),
    ]
    return [*((n, v) for n, v in record.headers if not n.startswith("dlq-")), *ours]


def _headers(record: LogRecord) -> dict[str, bytes]:
    # Kafka lets a header be null, which the client's types do not say.
    pairs = cast("Sequence[tuple[str, bytes | None]]", record.headers)
    return {name.lower(): text for name, text in pairs if text is not None}


def _avro_trigger(record: LogRecord, value: bytes) -> Trigger:
    command = decode_command(value)
    if not isinstance(command, Trigger):
        kind = type(command).__name__
        raise CodecError(f"a {kind} belongs on the control topic, not on the inbox")
    refusal = unreadable_payload(command.payload, command.payload_encoding, command.key_id)
    if refusal is not None:
        raise CodecError(refusal)
    if not command.id and not command.workflow:
        command = replace(command, id=_id_of_place(record))
    return _checked(command)


def _binary_cloud_event(record: LogRecord, headers: dict[str, bytes], value: bytes) -> Trigger:
    content_type = _content_type(headers).partition(";")[0].strip()
    if value and content_type and not content_type.endswith(("/json", "+json")):
        raise CodecError(
            f"the CloudEvent's content-type is {content_type}, and the data of an event is JSON"
        )
    data = _json(value) if value else None
    name, event_id = _text(headers, "ce_type"), _text(headers, "ce_id")
    return _trigger(record, name, event_id, data, "ce_type")


def _trigger(
    record: LogRecord, name: object, event_id: object, data: object, name_field: str
) -> Trigger:
    if not isinstance(name, str):
        raise CodecError(
            f'the event has no {name_field}; write {{"name": "...", "data": ...}} or a CloudEvent'
        )
    if event_id is not None and not isinstance(event_id, str):
        raise CodecError(f"the id of an event is text, got {event_id!r}")
    return _checked(
        Trigger(
            name=name,
            id=event_id or _id_of_place(record),
            workflow="",
            payload=_payload(data),
            payload_encoding="json",
            key_id="",
            idempotency_key="",
            sent_at=record.timestamp,
        )
    )


def _checked(trigger: Trigger) -> Trigger:
    for field, text in (
        ("name", trigger.name),
        ("id", trigger.id),
        ("workflow", trigger.workflow),
        ("idempotency key", trigger.idempotency_key),
    ):
        if len(text) > NAME_MAX:
            raise CodecError(f"the {field} has {len(text)} characters, the limit is {NAME_MAX}")
    if len(trigger.payload) > PAYLOAD_BYTES_MAX:
        raise CodecError(
            f"the data has {len(trigger.payload)} bytes as JSON, the limit is {PAYLOAD_BYTES_MAX};"
            " store it elsewhere and send a reference"
        )
    if not trigger.name and not trigger.workflow:
        raise CodecError("the event has an empty name")
    return trigger


def _id_of_place(record: LogRecord) -> str:
    return f"{record.topic}/{record.partition}/{record.offset}"


def _payload(data: object) -> bytes:
    payload = pydantic_core.to_json(data)
    if b"Infinity" in payload:
        try:
            pydantic_core.from_json(payload, allow_inf_nan=False)
        except ValueError as error:
            raise CodecError("the data holds a number beyond 1.8e308; send it as text") from error
    return payload


def _json(value: bytes) -> Any:
    try:
        return pydantic_core.from_json(value, allow_inf_nan=False)
    except ValueError as error:
        raise CodecError(_why_not_json(value, error)) from error


def _why_not_json(value: bytes, error: ValueError) -> str:
    if value[:1] == bytes([REGISTRY_FRAMING]):
        return "framed by a schema registry's serialiser; send JSON, or the Avro single object"
    try:
        value.decode()
    except UnicodeDecodeError as undecodable:
        return f"neither JSON nor Avro: not UTF-8 at byte {undecodable.start}"
    return f"neither JSON, a CloudEvent nor an Avro Trigger: {error}"


def _json_object(value: bytes) -> dict[str, Any]:
    body = _json(value)
    if not isinstance(body, dict):
        raise CodecError(f'JSON, but no event: {type(body).__name__} in place of {{"name": ...}}')
    return cast("dict[str, Any]", body)


def _text(headers: dict[str, bytes], name: str) -> str | None:
    value = headers.get(name)
    if value is None:
        return None
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        raise CodecError(f"header {name} is not UTF-8: {error}") from error


def _content_type(headers: dict[str, bytes]) -> str:
    return (_text(headers, "content-type") or "").lower()
