"""The quick way to read an event says what the ordinary one says, or leaves it to that one."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Iterable
from typing import Any

import pytest

from stepfold.core import events as e
from stepfold.core.errors import CodecError
from stepfold.core.ids import NO_EPOCH, Epoch
from stepfold.journal.codec import decode_event, encode_event
from stepfold.verify.quick import WANTED, QuickReader
from stepfold.verify.reading import Reader, UnknownEvent
from tests.unit.codec_samples import AT, sample, sample_events

EPOCH = Epoch(12_345, 2**62 + 4711)
KINDS = tuple(WANTED)
NUMBERS = (0, 1, 63, 64, 127, 128, 8_191, 8_192, 2**20, 2**31, 2**40)
TEXTS = ("", "a", "search#2", "naïve § ☃", "x" * 63, "x" * 64, "x" * 200, "x" * 20_000)


def reader(epoch: Epoch = EPOCH) -> QuickReader:
    quick = QuickReader()
    quick.expect(epoch)
    return quick


def variants(kind: type[e.Event]) -> Iterable[tuple[e.Event, int]]:
    """Events whose fields take every length that Avro writes in another way; with a number."""
    choose = random.Random(4711)
    for _ in range(200):
        event = sample(kind)
        names: dict[str, type[Any]] = {
            field.name: type(getattr(event, field.name)) for field in dataclasses.fields(kind)
        }
        changes: dict[str, object] = {}
        for name, type_ in names.items():
            if type_ is int:
                changes[name] = choose.choice(NUMBERS)
            elif type_ is str:
                changes[name] = choose.choice(TEXTS)
            elif type_ is bytes:
                changes[name] = choose.choice(TEXTS).encode()
            elif type_ is bool:
                changes[name] = choose.random() < 0.5
        yield dataclasses.replace(event, **changes), choose.choice(NUMBERS)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_read_quickly_is_what_was_written(kind: type[e.Event]) -> None:
    quick = reader()

    for event, seq in variants(kind):
        read = quick.read(encode_event(event, epoch=EPOCH, seq=seq, at=AT, tenant="acme"))

        assert read is not None
        assert (read[0], read[1], type(read[2])) == (EPOCH, seq, kind)
        for name in WANTED[kind]:
            assert getattr(read[2], name) == getattr(event, name)


@pytest.mark.parametrize("kind", KINDS)
def test_field_that_no_rule_asks_for_is_not_there(kind: type[e.Event]) -> None:
    read = reader().read(encode_event(sample(kind), epoch=EPOCH, seq=0, at=AT))

    assert read is not None
    with pytest.raises(AttributeError):
        _ = read[2].payload


def test_other_kinds_are_left_to_the_codec() -> None:
    quick = reader()

    for event in sample_events():
        if type(event) not in KINDS:
            assert quick.read(encode_event(event, epoch=EPOCH, seq=0, at=AT)) is None


@pytest.mark.parametrize("epoch", [NO_EPOCH, Epoch(0, 0), Epoch(12_345, -1), Epoch(12_346, 7)])
def test_other_epochs_are_left_to_the_codec(epoch: Epoch) -> None:
    value = encode_event(sample(e.StepCompleted), epoch=epoch, seq=0, at=AT)

    assert reader().read(value) is None
    assert reader(epoch).read(value) is not None


@pytest.mark.parametrize("kind", KINDS)
def test_damaged_bytes_are_left_to_the_codec(kind: type[e.Event]) -> None:
    value = encode_event(sample(kind), epoch=EPOCH, seq=7, at=AT)

    for cut in range(len(value)):
        assert reader().read(value[:cut]) is None
    assert reader().read(value + b"\x00") is None


def test_reader_says_of_damaged_bytes_what_the_codec_says() -> None:
    value = encode_event(sample(e.StepCompleted), epoch=EPOCH, seq=7, at=AT)

    with pytest.raises(CodecError) as known:
        decode_event(value[:-1], 0)
    with pytest.raises(CodecError) as told:
        Reader().read(value[:-1], 0)

    assert str(told.value) == str(known.value)


def test_event_of_a_schema_that_is_not_known_keeps_its_place_in_the_succession() -> None:
    value = encode_event(sample(e.StepCompleted), epoch=EPOCH, seq=7, at=AT)
    strange = value[:2] + b"\x01\x02\x03\x04\x05\x06\x07\x08" + value[10:]

    epoch, seq, event = Reader().read(strange, 0)

    assert (epoch, seq) == (EPOCH, 7)
    assert isinstance(event, UnknownEvent)
    assert event.kind == "unknown schema 0102030405060708"
    assert event.run_id == sample(e.StepCompleted).run_id
