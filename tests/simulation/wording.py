"""Records in a few words, for the trace."""

from __future__ import annotations

import dataclasses
from typing import Any

from stepfold.core import events as e
from stepfold.core.errors import CodecError
from stepfold.core.ids import Position
from stepfold.journal.codec import decode_command, decode_event
from stepfold.journal.port import LogRecord

VALUE_MAX = 60
NOT_SHOWN = frozenset(
    {"app", "build", "closes_last_offset", "closes_last_seq", "created_by", "error_stack",
     "event_name", "fold_version", "history_topic_id", "host", "inbox_topic_id", "control_topic_id",
     "isolated", "key_id", "nonce", "partitions", "payload_encoding", "pid", "sha256", "token",
     "took_ms", "topic_id", "unsafe", "worker_id"}
)  # fmt: skip


def told(record: LogRecord) -> str:
    value = record.value or b""
    try:
        if record.topic.endswith(".history"):
            return _told_event(value, record.offset)
        if value[:2] == b"\xc3\x01":
            return _told_fields(decode_command(value))
    except CodecError as error:
        return f"not readable: {error}"[: VALUE_MAX * 2]
    return repr(value[: VALUE_MAX * 2])


def _told_event(value: bytes, offset: int) -> str:
    recorded = decode_event(value, offset)
    if isinstance(recorded.event, e.Claimed):
        event = recorded.event
        return f"Claimed by {event.worker_id}, after the epoch of {event.prev_epoch_offset}"
    return f"{recorded.epoch.offset}:{recorded.seq} {_told_fields(recorded.event)}"


def _told_fields(thing: Any) -> str:
    parts = [type(thing).__name__]
    for field in dataclasses.fields(thing):
        value = getattr(thing, field.name)
        if field.name in NOT_SHOWN or value in (b"", "", 0, -1, None):
            continue
        if isinstance(value, Position):
            value = f"@{value.offset}"
        text = value.decode(errors="replace") if isinstance(value, bytes) else str(value)
        parts.append(f"{field.name}={text[:VALUE_MAX]}")
    return " ".join(parts)
