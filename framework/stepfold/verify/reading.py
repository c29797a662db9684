"""What a record of a history says, as far as it can be understood.

A kind that this version does not know is still known by its envelope, which is the same
in every kind: so it keeps its place in the succession, and only its meaning is missing.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias, cast

import fastavro

from stepfold.core import events as e
from stepfold.core.errors import CodecError
from stepfold.core.ids import Epoch
from stepfold.journal.codec import HEADER_BYTES, decode_event, is_single_object, writer_of
from stepfold.journal.port import LogRecord
from stepfold.verify.quick import QuickReader


@dataclass(frozen=True, slots=True, kw_only=True)
class UnknownEvent:
    """An event of a kind that this version does not have."""

    kind: str
    """How it is named in reports: by the fingerprint of its schema."""
    run_id: str


AnyEvent: TypeAlias = e.Event | UnknownEvent


Read: TypeAlias = tuple[Epoch, int, AnyEvent]
"""Epoch, number and event of a record; for a claim NO_EPOCH and -1."""


class Reader:
    """`quick` reads the most frequent events, those of the epoch that is expected."""

    def __init__(self) -> None:
        self._quick = QuickReader()
        self.quick = self._quick.read
        self.expect = self._quick.expect

    def read(self, value: bytes, offset: int) -> Read:
        """Raises CodecError that says what is wrong with the bytes."""
        try:
            whole = decode_event(value, offset)
        except CodecError:
            if is_known(value):
                raise
            unknown = _envelope_of(value)
            if unknown is None:
                raise
            return unknown
        return whole.epoch, whole.seq, whole.event


def is_known(value: bytes) -> bool:
    """Whether this version knows the schema that the record names."""
    try:
        writer_of(value)
    except CodecError:
        return False
    return True


def evidence(
    reader: Reader, records: Iterable[LogRecord]
) -> Iterator[tuple[int, Epoch, int | None]]:
    """What the first records of a history say of its owners; see `Succession.join`."""
    for record in records:
        with contextlib.suppress(CodecError):
            epoch, seq, event = reader.read(record.value or b"", record.offset)
            if isinstance(event, e.Claimed):
                predecessor = Epoch(event.prev_epoch_offset, event.prev_epoch_nonce)
                yield record.offset, predecessor, None
            else:
                yield record.offset, epoch, seq


_ENVELOPE: Any = fastavro.parse_schema(
    {
        "type": "record",
        "name": "Envelope",
        "fields": [
            {"name": "epoch_offset", "type": "long"},
            {"name": "epoch_nonce", "type": "long"},
            {"name": "seq", "type": "long"},
            {"name": "at", "type": "long"},
            {"name": "run_id", "type": "string"},
        ],
    }
)
"""The fields that every kind begins with."""


_read_fields = cast(
    "Callable[[io.BytesIO, Any, None], dict[str, Any]]",
    fastavro.schemaless_reader,  # pyright: ignore[reportUnknownMemberType] - as in the codec
)


def _envelope_of(value: bytes) -> Read | None:
    """Of a record whose schema is unknown; None when the bytes are none of ours at all."""
    if not is_single_object(value) or len(value) <= HEADER_BYTES:
        return None
    try:
        fields = _read_fields(io.BytesIO(value[HEADER_BYTES:]), _ENVELOPE, None)
    except (EOFError, IndexError, ValueError, OverflowError, MemoryError):
        return None
    kind = f"unknown schema {value[2:HEADER_BYTES].hex()}"
    epoch = Epoch(fields["epoch_offset"], fields["epoch_nonce"])
    return epoch, fields["seq"], UnknownEvent(kind=kind, run_id=fields["run_id"])
