"""What is split and joined again is the same, byte for byte, however it was written.

Texts are made at random but from numbered seeds: a failure names its seed and comes again.
"""

from __future__ import annotations

import random

import pytest
from pydantic_core import to_json

from stepfold.core.errors import PayloadError
from stepfold.payloads.split import split
from tests.unit.payloads.samples import call_of, messages, prose, referred, tiny_sizes, whole
from tests.unit.payloads.texts import breakage, text

SEEDS_FINE = 500
SEEDS_BROKEN = 400
SEEDS_IN_USE = 15


def test_any_json_text_comes_back_byte_for_byte_when_cut_finely() -> None:
    blobs = 0
    with tiny_sizes():
        for seed in range(SEEDS_FINE):
            payload = text(random.Random(seed))

            made = split(payload)

            assert whole(made) == payload, seed
            assert referred(made) == set(made.blobs), seed
            blobs += len(made.blobs)
    assert blobs > SEEDS_FINE * 5


def test_any_json_text_comes_back_byte_for_byte_at_the_sizes_in_use() -> None:
    for seed in range(SEEDS_IN_USE):
        dice = random.Random(seed)
        payload = b"[" + b",".join(text(dice) for _ in range(dice.randint(50, 250))) + b"]"

        made = split(payload)

        assert whole(made) == payload, seed
        assert referred(made) == set(made.blobs), seed


def test_what_is_not_json_is_refused_or_comes_back_byte_for_byte() -> None:
    refused = 0
    with tiny_sizes():
        for seed in range(SEEDS_BROKEN):
            dice = random.Random(seed)
            payload = breakage(text(dice), dice)
            try:
                made = split(payload)
            except PayloadError:
                refused += 1
            else:
                assert whole(made) == payload, seed
    assert 0 < refused < SEEDS_BROKEN


@pytest.mark.parametrize(
    "payload",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"null", id="null"),
        pytest.param(b"1" * 100_000, id="a number of 100,000 digits"),
        pytest.param(to_json([1.0, -0.0, 10**40, 1e300] * 4_000), id="numbers"),
        pytest.param(b"[1e400," * 1 + b"1E400," * 9_000 + b"-0.0]", id="numbers beyond a float"),
        pytest.param(to_json(prose(100_000)), id="a string"),
        pytest.param(to_json("日本語😀" * 10_000), id="characters of several bytes"),
        pytest.param(b'"' + b"\\\\" * 30_000 + b'\\""', id="backslashes"),
        pytest.param(b'"' + b"\\ud83d\\ude00" * 8_000 + b'"', id="surrogate pairs"),
        pytest.param(b'"' + b"\\ud83d" * 16_000 + b'"', id="halves of characters"),
        pytest.param(to_json("a" * 100_000), id="one character over and over"),
        pytest.param(to_json(["$" * 300] * 300), id="dollar signs"),
        pytest.param(
            to_json({"$blob": "sha256-" + "0" * 64, "bytes": 9, "x": prose(50_000)}), id="forged"
        ),
        pytest.param(to_json({"$array": [[1], [2]], "x": messages(60)}), id="forged parts"),
        pytest.param(to_json({f"key {n}": prose(90, n) for n in range(900)}), id="many members"),
        pytest.param(to_json({"k" * 50_000: 1, "l": "m" * 50_000}), id="a long key"),
        pytest.param(call_of(messages(120), model="m"), id="a transcript"),
        pytest.param(b"[" + b" " * 50_000 + b"]", id="white space in an array"),
        pytest.param(b"{" + b"\n" * 50_000 + b"}", id="white space in an object"),
        pytest.param(b" " * 50_000 + b"1", id="white space around"),
        pytest.param(b"[" * 40_000 + b"]" * 40_000, id="nesting"),
        pytest.param(
            b"[" + b'{"a":' * 400 + to_json(messages(40)) + b"}" * 400 + b"]", id="deep down"
        ),
        pytest.param(b"[" + b"[]," * 30_000 + b"{}]", id="empty ones"),
        pytest.param(to_json([["a", 1, {"b": [n]}] for n in range(4_000)]), id="rows"),
        pytest.param(to_json([prose(n % 700, n) for n in range(300)]), id="strings of all lengths"),
        pytest.param(to_json([[n, prose(12_000, n), n] for n in range(9)]), id="long among short"),
    ],
)
def test_odd_payloads_come_back_byte_for_byte(payload: bytes) -> None:
    made = split(payload)

    assert whole(made) == payload
    assert referred(made) == set(made.blobs)


@pytest.mark.parametrize(
    ("payload", "what"),
    [
        (b'["a]', "a string that is never closed at byte 1"),
        (b"[1,2", "a bracket that is never closed at byte 0"),
        (b"[1,2}", "a bracket that does not match at byte 4"),
        (b"1]", "a bracket that does not match at byte 1"),
    ],
)
def test_text_whose_brackets_or_quotes_do_not_match_is_refused(payload: bytes, what: str) -> None:
    with pytest.raises(PayloadError, match=what):
        split(payload)
