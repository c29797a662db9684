"""The decoders that are made from the schemas read what fastavro writes, to the last bit."""

from __future__ import annotations

import importlib
import io
import json
import random
from typing import Any

import pytest

from stepfold.core import events as e
from stepfold.core.commands import COMMAND_TYPES
from stepfold.core.errors import CodecError
from stepfold.core.ids import Epoch
from stepfold.journal import codec
from stepfold.journal.decoding import Shape, decoder_of, take_long
from stepfold_topics import schemas
from tests.unit.codec_samples import sample

fastavro: Any = importlib.import_module("fastavro")  # its stubs leave the buffer's type open

RECORDS_PER_KIND = 200
KINDS = {cls.__name__: cls for cls in (*e.EVENT_TYPES, *COMMAND_TYPES)}
LONGS = [0, -1, 1, 63, 64, -64, -65, 2**31, -(2**40), 2**63 - 1, -(2**63), 1_790_000_000_123]
TEXTS = ["", "json", "tick#2", "naïve № ☃ 𝄞", "x" * 63, "y" * 64, "z" * 20_000]
NESTED_BODY = codec.encode_command(sample(KINDS["ResolveChild"]))


class Fields:
    """Takes whatever the schema names: a slot for each field."""

    def __init__(self, **values: Any) -> None:
        self.__dict__.update(values)


@pytest.mark.parametrize("name", sorted(schemas.present()))
def test_what_fastavro_writes_by_a_schema_is_read_field_by_field(name: str) -> None:
    dice = random.Random(name)
    fields = json.loads(schemas.present()[name].replace(TIMESTAMP, '"long"'))["fields"]
    schema = fastavro.parse_schema({"type": "record", "name": name, "fields": fields})
    read = reader_of(fields, fields)

    for _ in range(RECORDS_PER_KIND):
        written = {field["name"]: value_of(dice, field) for field in fields}

        assert read(avro(schema, written)) == written


@pytest.mark.parametrize(
    ("version", "name"),
    [(version, name) for version, texts in schemas.released().items() for name in texts],
)
def test_what_a_release_wrote_is_read_as_fastavro_resolves_it(version: str, name: str) -> None:
    dice = random.Random(f"{version} {name}")
    old, new = (
        json.loads(texts[name].replace(TIMESTAMP, '"long"'))
        for texts in (schemas.released()[version], schemas.present())
    )
    writer, reader = (
        fastavro.parse_schema(old, _force=True),
        fastavro.parse_schema(new, _force=True),
    )
    read = reader_of(old["fields"], new["fields"])

    for _ in range(RECORDS_PER_KIND):
        value = avro(writer, {field["name"]: value_of(dice, field) for field in old["fields"]})

        assert read(value) == fastavro.schemaless_reader(io.BytesIO(value), writer, reader)


def test_events_of_alternating_epochs_keep_their_own() -> None:
    event: e.TimerFired = sample(e.TimerFired)
    epochs = [Epoch(1, 2), Epoch(1, 2**62), Epoch(2**40, 2), Epoch(1, 2)]
    values = [codec.encode_event(event, epoch=epoch, seq=3, at=4) for epoch in epochs]

    assert [codec.decode_event(value, 0).epoch for value in values] == epochs


def test_an_array_in_blocks_with_their_sizes_is_read_as_one() -> None:
    fields = json.loads(schemas.present()["RunCompleted"])["fields"]
    out = [field for field in fields if field["name"] == "out"]
    one = b"\x02t" + b"\x06" + b"\x00"
    read = reader_of(out, out)

    blocks = b"\x02" + one + b"\x03" + b"\x10" + one + one + b"\x00"

    assert read(blocks) == {"out": [{"target": "t", "n": 3, "body": b""}] * 3}


@pytest.mark.parametrize(
    ("damage", "what"),
    [
        (b"\xff" * 11, "a long of more than 10 bytes"),
        (b"\xff" * 3, "truncated TimerFired"),
        (b"\x04", "truncated TimerFired"),
    ],
)
def test_longs_that_do_not_end_are_refused(damage: bytes, what: str) -> None:
    value = codec.encode_event(sample(e.TimerFired), epoch=Epoch(1, 2), seq=3, at=4)

    with pytest.raises(CodecError, match=what):
        codec.decode_event(value[: codec.HEADER_BYTES] + damage, 0)


@pytest.mark.parametrize("length", [b"\x01", b"\x03", b"\xff\x01"])
def test_a_negative_length_is_refused(length: bytes) -> None:
    fields = [{"name": "text", "type": "string"}]

    with pytest.raises((KeyError, ValueError)):
        reader_of(fields, fields)(length + b"abc")


@pytest.mark.parametrize("number", LONGS)
def test_a_long_is_taken_with_the_place_where_it_ends(number: int) -> None:
    value = avro(fastavro.parse_schema("long"), number)

    assert take_long(b"xx" + value + b"yy", 2) == (number, 2 + len(value))


TIMESTAMP = '{"type": "long", "logicalType": "timestamp-millis"}'


def reader_of(written: list[Any], present: list[Any]) -> Any:
    names = [field["name"] for field in present]
    items: dict[str, str] = {
        field["name"]: "dict("
        + ", ".join(f"{item['name']}=i_{item['name']}" for item in field["type"]["items"]["fields"])
        + ")"
        for field in present
        if isinstance(field["type"], dict)
    }
    listed = {name: f"list(f_{name})" for name in items}
    result = "dict(" + ", ".join(f"{name}={listed.get(name, f'f_{name}')}" for name in names) + ")"
    decode = decoder_of(Shape(Fields, {}, items, {}), written, present, (), result)

    def read(value: bytes) -> Any:
        return decode(value, 0)

    return read


def value_of(dice: random.Random, field: Any) -> Any:
    kind = field["type"]
    if not isinstance(kind, str):
        count = dice.choice([0, 1, 2, 70])
        return [
            {item["name"]: value_of(dice, item) for item in kind["items"]["fields"]}
            for _ in range(count)
        ]
    match kind:
        case "long":
            return dice.choice([*LONGS, dice.randrange(-(2**63), 2**63)])
        case "boolean":
            return dice.random() < 0.5
        case "bytes":
            return dice.choice([NESTED_BODY, dice.randbytes(dice.choice([0, 1, 63, 64, 5_000]))])
        case _:
            return dice.choice(TEXTS)


def avro(schema: Any, value: Any) -> bytes:
    buffer = io.BytesIO()
    fastavro.schemaless_writer(buffer, schema, value)
    return buffer.getvalue()
