"""What is written comes back, and what cannot be read says why."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import io
import json
import random
from typing import Any

import pytest
from fastavro.schema import fingerprint, to_parsing_canonical_form

from stepfold.core import events as e
from stepfold.core.commands import Control, Trigger
from stepfold.core.errors import CodecError
from stepfold.core.ids import NO_EPOCH
from stepfold.journal import codec
from stepfold_topics import schemas
from tests.unit.codec_samples import AT, EPOCH, RUN, SEQ, sample, sample_commands, sample_events

fastavro: Any = importlib.import_module("fastavro")  # its stubs leave the buffer's type open
STEP_COMPLETED: e.StepCompleted = sample(e.StepCompleted)


def kind_name(record: object) -> str:
    return type(record).__name__


def encoded(event: e.Event) -> bytes:
    return codec.encode_event(event, epoch=EPOCH, seq=SEQ, at=AT, tenant="tenant")


@pytest.mark.parametrize("event", sample_events(), ids=kind_name)
def test_an_event_comes_back_with_its_envelope(event: e.Event) -> None:
    assert codec.decode_event(encoded(event), 41) == e.Recorded(41, EPOCH, SEQ, AT, event)


@pytest.mark.parametrize("command", sample_commands(), ids=kind_name)
def test_a_command_comes_back(command: Control | Trigger) -> None:
    assert codec.decode_command(codec.encode_command(command)) == command


@pytest.mark.parametrize("event", sample_events(), ids=kind_name)
def test_a_stranger_reads_an_event_with_the_published_schema_alone(event: e.Event) -> None:
    value = encoded(event)
    schema = fastavro.parse_schema(json.loads(schemas.present()[kind_name(event)]))

    fields: Any = fastavro.schemaless_reader(io.BytesIO(value[10:]), schema, None)

    assert (fields["seq"], fields["tenant"]) == (SEQ, "tenant")
    assert int(fields["at"].timestamp() * 1000 + 0.5) == AT
    assert fields["run_id"] == getattr(event, "run_id", "")


def test_the_fingerprint_is_that_of_the_avro_specification_with_its_low_byte_first() -> None:
    of_null = bytes.fromhex(fingerprint('"null"', "CRC-64-AVRO"))

    assert int.from_bytes(of_null, "little") == 0x63DD24E7CC258F8A


def test_a_record_of_an_earlier_release_is_read_with_the_schema_of_that_release(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    old = json.loads(schemas.present()["StepCompleted"])
    old["fields"].append({"name": "dropped_since", "type": "string", "default": ""})
    monkeypatch.setattr(schemas, "released", lambda: {"0.0.9": {"StepCompleted": json.dumps(old)}})
    later = fresh_codec()
    value = old_bytes(old, {"dropped_since": "then"})

    assert later.decode_event(value, 3).event == STEP_COMPLETED
    assert later.decode_event(encoded(STEP_COMPLETED), 3).event == STEP_COMPLETED
    with pytest.raises(CodecError, match="unknown schema fingerprint"):
        codec.decode_event(value, 3)


@pytest.mark.parametrize("record", [*sample_events(), *sample_commands()], ids=kind_name)
def test_nothing_is_lost_when_slots_are_filled_without_the_constructor(record: object) -> None:
    assert not hasattr(record, "__post_init__")
    assert not hasattr(record, "__dict__")


def test_a_claim_has_no_place_in_an_epoch() -> None:
    claim: e.Claimed = sample(e.Claimed)

    value = codec.encode_event(claim, epoch=NO_EPOCH, seq=-1, at=AT)

    assert codec.decode_event(value, 5) == e.Recorded(5, NO_EPOCH, -1, AT, claim)


def test_headers_say_in_text_what_a_person_searches_for() -> None:
    headers = codec.event_headers(STEP_COMPLETED, EPOCH, SEQ)

    assert dict(headers) == {
        "sf-kind": b"StepCompleted",
        "sf-run": RUN.encode(),
        "sf-step": STEP_COMPLETED.step.encode(),
        "sf-attempt": b"%d" % STEP_COMPLETED.attempt,
        "sf-epoch": b"1099511627776:-9223372036854775808",
        "sf-seq": b"7",
    }


def test_headers_of_a_shards_own_event_name_no_run_and_no_step() -> None:
    headers = codec.event_headers(sample(e.Drained), EPOCH, SEQ)

    assert [name for name, _ in headers] == ["sf-kind", "sf-epoch", "sf-seq"]
    assert codec.event_run_id(sample(e.Drained)) == ""


@pytest.mark.parametrize("size", range(10))
def test_fewer_bytes_than_the_header_are_too_short(size: int) -> None:
    with pytest.raises(CodecError, match=rf"too short .* {size} bytes"):
        codec.decode_event(encoded(STEP_COMPLETED)[:size], 0)


def test_other_formats_are_told_by_their_first_bytes() -> None:
    with pytest.raises(CodecError, match="begins with 7b22, not c301"):
        codec.decode_event(b'{"name": "agent/run"}', 0)


def test_a_schema_that_is_not_known_is_named_by_its_fingerprint() -> None:
    with pytest.raises(CodecError, match=r"fingerprint 0102030405060708.*newer version"):
        codec.decode_event(b"\xc3\x01" + bytes(range(1, 9)) + b"rest", 0)


@pytest.mark.parametrize("event", sample_events(), ids=kind_name)
def test_a_record_that_ends_early_is_refused_wherever_it_ends(event: e.Event) -> None:
    value = encoded(event)

    for size in range(codec.HEADER_BYTES, len(value)):
        with pytest.raises(CodecError, match=f"(truncated|damaged) {kind_name(event)}"):
            codec.decode_event(value[:size], 0)


def test_bytes_after_the_end_are_refused() -> None:
    with pytest.raises(CodecError, match="2 bytes follow its end"):
        codec.decode_event(encoded(STEP_COMPLETED) + b"xy", 0)


@pytest.mark.parametrize("event", sample_events(), ids=kind_name)
def test_damaged_bytes_give_an_event_or_a_codec_error_and_nothing_else(event: e.Event) -> None:
    dice = random.Random(kind_name(event))
    value = encoded(event)

    for _ in range(300):
        damaged = bytearray(value)
        for _ in range(dice.randint(1, 3)):
            damaged[dice.randrange(codec.HEADER_BYTES, len(value))] = dice.randrange(256)
        with contextlib.suppress(CodecError):
            codec.decode_event(bytes(damaged), 0)


def test_a_command_is_no_event_and_an_event_no_command() -> None:
    trigger: Trigger = sample(Trigger)

    with pytest.raises(CodecError, match="Trigger is a command"):
        codec.decode_event(codec.encode_command(trigger), 0)
    with pytest.raises(CodecError, match="StepCompleted is an event"):
        codec.decode_command(encoded(STEP_COMPLETED))


def fresh_codec() -> Any:
    """The module once more, for it takes the released schemas in once."""
    found = importlib.util.spec_from_file_location("fresh_codec", codec.__file__)
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


def old_bytes(schema: dict[str, Any], more: dict[str, Any]) -> bytes:
    fields = json.loads(schemas.present()["StepCompleted"])["fields"]
    written = {"epoch_offset": EPOCH.offset, "epoch_nonce": EPOCH.nonce, "seq": SEQ, "at": AT}
    values = {
        field["name"]: getattr(STEP_COMPLETED, field["name"], "")
        for field in fields
        if field["name"] not in written
    }
    canonical = to_parsing_canonical_form(schema)
    header = bytes.fromhex(fingerprint(canonical, "CRC-64-AVRO"))
    buffer = io.BytesIO()
    fastavro.schemaless_writer(buffer, fastavro.parse_schema(schema), written | values | more)
    return codec.MAGIC + header + buffer.getvalue()
