"""Events and commands to bytes and back: one Avro schema per kind, single-object encoding.

The first ten bytes name the schema that a record was written with (C3 01 and its
CRC-64-AVRO fingerprint), so the log needs no registry and old records stay readable.
One schema per kind, without unions, because a union of all kinds costs two to six
times as much. Times stay integers: the logical type is taken off the schema in memory,
which leaves its fingerprint as it is. A record of an earlier release is read with the
schema that release wrote, into the present class. fastavro writes; reading, which is what
a new owner waits for, is done by the decoders of `journal.decoding`.
"""

from __future__ import annotations

import dataclasses
import io
import json
from collections.abc import Callable, Iterable
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import fastavro
from fastavro.schema import fingerprint, to_parsing_canonical_form

from stepfold.core.commands import COMMAND_TYPES, DELIVERED_TYPES, Command, Trigger
from stepfold.core.errors import CodecError
from stepfold.core.ids import NO_EPOCH, Epoch, Position
from stepfold.journal.decoding import Shape, decoder_of, take_long
from stepfold.journal.port import Headers
from stepfold_topics import schemas

if TYPE_CHECKING:
    # Loaded at first use: a program that only starts runs does not wait for thirty classes.
    from stepfold.core import events as e

NESTED_TYPES = frozenset({*DELIVERED_TYPES, Trigger})
MAGIC = b"\xc3\x01"
HEADER_BYTES = 10
EPOCH_FIELDS = 2
"""The epoch is the first two fields of each event."""

# Their stubs leave the buffer's type open, which strict checks would report at each call.
_write_fields = cast(
    "Callable[[io.BytesIO, Any, dict[str, Any]], None]",
    fastavro.schemaless_writer,  # pyright: ignore[reportUnknownMemberType] - see above
)


class _Kind(NamedTuple):
    """How one kind is written and read.

    decode: of an event, (bytes, where to begin, offset, epoch) to what is recorded, beginning
    after the epoch; of a command, (bytes, where to begin) to the command.
    """

    type: type[Any]
    header: bytes
    schema: Any
    to_fields: Callable[[Any], dict[str, Any]]
    decode: Callable[..., Any]
    is_event: bool


def encode_event(event: e.Event, *, epoch: Epoch, seq: int, at: int, tenant: str = "") -> bytes:
    """For a claim: epoch NO_EPOCH, seq -1."""
    kind = _BY_TYPE[type(event)]
    fields = kind.to_fields(event)
    fields["epoch_offset"], fields["epoch_nonce"] = epoch
    fields["seq"] = seq
    fields["at"] = at
    fields["tenant"] = tenant
    return _write(kind, fields)


def event_headers(event: e.Event, epoch: Epoch, seq: int) -> Headers:
    """What a person greps for, as text."""
    headers: Headers = [
        ("sf-kind", type(event).__name__.encode()),
        ("sf-epoch", b"%d:%d" % epoch),
        ("sf-seq", b"%d" % seq),
    ]
    run_id = event_run_id(event)
    if run_id:
        headers.append(("sf-run", run_id.encode()))
    step = getattr(event, "step", "")
    if step:
        headers.append(("sf-step", step.encode()))
        attempt = getattr(event, "attempt", 0)
        if attempt:
            headers.append(("sf-attempt", b"%d" % attempt))
    return headers


def event_run_id(event: e.Event) -> str:
    """The run an event is about; empty for events of the shard itself."""
    return cast("str", getattr(event, "run_id", ""))


def decode_event(value: bytes, offset: int) -> e.Recorded:
    """Raises CodecError that says what is wrong with the bytes."""
    kind = _BY_HEADER.get(value[:HEADER_BYTES]) or _first_met(value)
    if not kind.is_event:
        raise CodecError(f"{kind.type.__name__} is a command, not an event of a history")
    try:
        encoded, epoch = _epochs.last
        if not value.startswith(encoded, HEADER_BYTES):
            encoded, epoch = _epochs.read(value)
        recorded: e.Recorded = kind.decode(value, HEADER_BYTES + len(encoded), offset, epoch)
    except (LookupError, ValueError) as error:
        raise _damaged(kind, value, error) from error
    return recorded


class _Epochs:
    """The epoch is the first thing in every event, and mostly that of the event before."""

    def __init__(self) -> None:
        self.last = (b"not met yet", NO_EPOCH)

    def read(self, value: bytes) -> tuple[bytes, Epoch]:
        offset, at = take_long(value, HEADER_BYTES)
        nonce, at = take_long(value, at)
        self.last = last = (value[HEADER_BYTES:at], Epoch(offset, nonce))
        return last


def encode_command(command: Command) -> bytes:
    kind = _BY_TYPE[type(command)]
    return _write(kind, kind.to_fields(command))


def decode_command(value: bytes) -> Command:
    """Raises CodecError that says what is wrong with the bytes."""
    kind = _BY_HEADER.get(value[:HEADER_BYTES]) or _first_met(value)
    if kind.is_event:
        raise CodecError(f"{kind.type.__name__} is an event of a history, not a command")
    try:
        return cast("Command", kind.decode(value, HEADER_BYTES))
    except (LookupError, ValueError) as error:
        raise _damaged(kind, value, error) from error


def _decode_nested(value: bytes) -> Command:
    """A command inside another record; those that may be there hold no further ones."""
    kind = _BY_HEADER.get(value[:HEADER_BYTES]) or _first_met(value)
    if kind.type not in NESTED_TYPES:
        raise CodecError(f"{kind.type.__name__} cannot be inside of another record")
    return decode_command(value)


def writer_of(value: bytes) -> tuple[type[Any], Any]:
    """The kind of a record, and the parsed schema that it was written with.

    Raises CodecError when the bytes begin as no record of a kind known here.
    """
    kind = _BY_HEADER.get(value[:HEADER_BYTES]) or _first_met(value)
    return kind.type, kind.schema


def is_single_object(value: bytes) -> bool:
    """Whether the bytes begin as an Avro single object does."""
    return value[:2] == MAGIC


def _write(kind: _Kind, fields: dict[str, Any]) -> bytes:
    buffer = io.BytesIO()
    buffer.write(kind.header)
    _write_fields(buffer, kind.schema, fields)
    return buffer.getvalue()


def _damaged(kind: _Kind, value: bytes, error: Exception) -> CodecError:
    name = kind.type.__name__
    if isinstance(error, IndexError):
        return CodecError(f"truncated {name} record: it ends after {len(value)} bytes")
    reason = "a length is negative" if isinstance(error, KeyError) else error
    return CodecError(f"damaged {name} record: {reason}")


def _first_met(value: bytes) -> _Kind:
    if not _BY_HEADER:
        # The present schemas come last: where a release wrote the same, nothing is resolved.
        present = (_BY_TYPE[cls] for cls in (*_event_types(), *COMMAND_TYPES))
        _BY_HEADER.update({**_released_kinds(), **{kind.header: kind for kind in present}})
    kind = _BY_HEADER.get(value[:HEADER_BYTES])
    if kind is None:
        raise _unknown(value)
    return kind


def _unknown(value: bytes) -> CodecError:
    if len(value) < HEADER_BYTES:
        return CodecError(
            f"too short for an Avro single object: {len(value)} bytes,"
            f" of which its header alone takes {HEADER_BYTES}"
        )
    if value[:2] != MAGIC:
        return CodecError(
            f"not an Avro single object: it begins with {value[:2].hex()}, not {MAGIC.hex()}"
        )
    return CodecError(
        f"unknown schema fingerprint {value[2:HEADER_BYTES].hex()}: written by a newer version"
        " of stepfold, or by somebody else; upgrade this process, or look at the producer"
    )


class _Kinds(dict[type[Any], _Kind]):
    """Made at first use: a program that only starts runs needs one kind, and no wait for all."""

    def __missing__(self, cls: type[Any]) -> _Kind:
        header, schema = _parsed(_TEXTS[cls.__name__])
        kind = self[cls] = _Kind(
            type=cls,
            header=header,
            schema=schema,
            to_fields=_to_fields(_names(cls)),
            decode=_decoder(cls, schema, schema),
            is_event=cls not in COMMAND_TYPES,
        )
        return kind


def _released_kinds() -> dict[bytes, _Kind]:
    """Kinds whose schema has grown since a release, by the header of what that one wrote."""
    types = {cls.__name__: cls for cls in (*_event_types(), *COMMAND_TYPES)}
    found: dict[bytes, _Kind] = {}
    for texts in schemas.released().values():
        for name, text in texts.items():
            if text == _TEXTS.get(name):
                continue
            header, schema = _parsed(text)
            kind = _BY_TYPE[types[name]]
            decode = _decoder(kind.type, schema, kind.schema)
            found[header] = kind._replace(header=header, schema=schema, decode=decode)
    return found


def _parsed(text: str) -> tuple[bytes, Any]:
    definition = json.loads(text)
    canonical = to_parsing_canonical_form(definition)
    header = MAGIC + bytes.fromhex(fingerprint(canonical, "CRC-64-AVRO"))
    return header, fastavro.parse_schema(_without_logical_types(definition), _force=True)


def _without_logical_types(schema: Any) -> Any:
    if isinstance(schema, dict):
        mapping = cast("dict[str, Any]", schema)
        if "logicalType" in mapping:
            return mapping["type"]
        return {key: _without_logical_types(value) for key, value in mapping.items()}
    if isinstance(schema, list):
        return [_without_logical_types(item) for item in cast("Iterable[Any]", schema)]
    return schema


def _to_fields(names: list[str]) -> Callable[[Any], dict[str, Any]]:
    """A function that spells the fields out: a loop over names would cost more than Avro."""
    parts = [_WRITTEN.get(name, f'"{name}": x.{name}') for name in names]
    if "run_id" not in names:
        parts.append('"run_id": ""')
    scope = {"encode_command": encode_command}
    return cast("Callable[[Any], dict[str, Any]]", eval(f"lambda x: {{{', '.join(parts)}}}", scope))


def _decoder(cls: type[Any], written: Any, present: Any) -> Callable[..., Any]:
    names = _names(cls)
    scope: dict[str, Any] = {"Position": Position, "decode_nested": _decode_nested}
    if cls not in COMMAND_TYPES:
        scope |= _records() | {"record": cast("Any", tuple).__new__}
    slots = {name: _SLOTS.get(name, f"f_{name}") for name in names}
    shape = Shape(cls, slots, _ITEMS, scope)
    if cls in COMMAND_TYPES:
        return decoder_of(shape, written["fields"], present["fields"], (), "x")
    return decoder_of(
        shape,
        written["fields"][EPOCH_FIELDS:],
        present["fields"][EPOCH_FIELDS:],
        ("offset", "epoch"),
        "record(Recorded, (offset, epoch, f_seq, f_at, x))",
    )


def _names(cls: type[Any]) -> list[str]:
    return [field.name for field in dataclasses.fields(cls)]


_WRITTEN = {
    "source": '"src_topic_id": x.source.topic_id, "src_partition": x.source.partition, '
    '"src_offset": x.source.offset, "src_leader_epoch": x.source.leader_epoch',
    "runs": '"runs": [r._asdict() for r in x.runs]',
    "out": '"out": [{"target": o.target, "n": o.n, "body": encode_command(o.body)} for o in x.out]',
    "origin": '"from_shard": x.origin.shard, "from_n": x.origin.n',
    "parent": '"parent_shard": x.parent.shard, "parent_run_id": x.parent.run_id, '
    '"parent_step": x.parent.step',
    "body": '"body": encode_command(x.body)',
}
_SLOTS = {
    "source": "Position(f_src_topic_id, f_src_partition, f_src_offset, f_src_leader_epoch)",
    "out": "f_out and tuple(Out(t, n, decode_nested(body)) for t, n, body in f_out)",
    "origin": "Origin(f_from_shard, f_from_n)",
    "parent": "Parent(f_parent_shard, f_parent_run_id, f_parent_step)",
    "body": "decode_nested(f_body)",
}
_ITEMS = {
    "runs": "RunStart(i_run_id, i_workflow, i_def_hash, i_tenant, i_idempotency_key, i_deadline)",
    "out": "(i_target, i_n, i_body)",
}
_TEXTS = schemas.present()
_BY_TYPE = _Kinds()
_BY_HEADER: dict[bytes, _Kind] = {}
_epochs = _Epochs()


@cache
def _event_types() -> frozenset[type[Any]]:
    from stepfold.core.events import EVENT_TYPES

    return frozenset(EVENT_TYPES)


@cache
def _records() -> dict[str, Any]:
    """The records that are nested in events, and the one that they are nested in."""
    from stepfold.core.events import Origin, Out, Parent, Recorded, RunStart

    kinds: tuple[type[Any], ...] = (Origin, Out, Parent, Recorded, RunStart)
    return {kind.__name__: kind for kind in kinds}
