"""Payloads that are partly equal are stored in parts, and each part once."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from pydantic_core import to_json

from stepfold.payloads.split import DOCUMENT_BYTES_MAX, split
from tests.unit.payloads.samples import call_of, messages, prose

TURNS = 200
KIB = 1_024
MESSAGES = messages(2 * TURNS)
PROSE = prose(2 * TURNS * KIB)
# What every call takes along and never changes: tool descriptions, a system prompt.
TOOLS = [{"name": f"tool {n}", "description": prose(300, n)} for n in range(20)]


def test_turn_adds_what_it_says_and_little_more() -> None:
    before = split(call_of(messages=MESSAGES[:TURNS], tools=TOOLS))
    after = split(call_of(messages=MESSAGES[: TURNS + 1], tools=TOOLS))

    added = {name: each for name, each in after.blobs.items() if name not in before.blobs}

    assert len(added) <= 6
    assert sum(map(len, added.values())) + len(after.document) < 5 * KIB


def test_message_inserted_at_the_beginning_leaves_the_rest_shared() -> None:
    before = split(call_of(MESSAGES[1:TURNS]))
    after = split(call_of(MESSAGES[:TURNS]))

    assert _new_bytes(before.blobs, after.blobs) < 0.1 * TURNS * KIB


def test_oldest_messages_left_out_leave_the_rest_shared() -> None:
    before = split(call_of(MESSAGES[:TURNS]))
    after = split(call_of([MESSAGES[0], *MESSAGES[50:TURNS]]))

    assert _new_bytes(before.blobs, after.blobs) < 0.1 * TURNS * KIB


def test_sentence_inserted_in_a_text_leaves_the_rest_shared() -> None:
    text = PROSE[: TURNS * KIB]

    before = split(to_json(text))
    after = split(
        to_json(f"You are at step 17 of 20. {text[:70_000]} Mind the gap. {text[70_000:]}")
    )

    assert _new_bytes(before.blobs, after.blobs) < 0.1 * TURNS * KIB


def test_number_inserted_in_a_list_of_numbers_leaves_the_rest_shared() -> None:
    numbers = [1 / n for n in range(1, 10_000)]

    before = split(to_json(numbers))
    after = split(to_json([0.5, *numbers]))

    assert _new_bytes(before.blobs, after.blobs) < 0.1 * len(to_json(numbers))


def test_value_that_stays_the_same_costs_a_reference() -> None:
    with_tools = split(call_of(messages=MESSAGES[:TURNS], tools=TOOLS))
    without = split(call_of(messages=MESSAGES[:TURNS]))

    assert len(with_tools.document) - len(without.document) < 150


def test_equal_parts_of_different_payloads_are_the_same_blobs() -> None:
    argument = split(call_of({"model": "m", "messages": MESSAGES[:50]}))
    result = split(to_json({"usage": 17, "messages": MESSAGES[:50]}))

    assert len(set(argument.blobs) & set(result.blobs)) >= 0.9 * len(result.blobs)


@pytest.mark.parametrize(
    "payload",
    [
        pytest.param(to_json(MESSAGES), id="a list"),
        pytest.param(to_json(PROSE), id="a string"),
        pytest.param(to_json({f"key {n}": prose(300, n) for n in range(2_000)}), id="members"),
        pytest.param(to_json({f"key {n}": prose(9_000, n) for n in range(32)}), id="long members"),
        pytest.param(to_json([[n] * 3_000 for n in range(200)]), id="lists of numbers"),
        pytest.param(to_json({"k" * 50_000: 1}), id="a long key"),
        pytest.param(b"1" * 100_000, id="a long number"),
    ],
)
def test_document_stays_small_whatever_the_payload(payload: bytes) -> None:
    assert len(split(payload).document) <= DOCUMENT_BYTES_MAX


def test_large_payload_becomes_fewer_and_larger_blobs() -> None:
    payload = to_json(PROSE * 20)  # 8 MiB

    made = split(payload)

    assert len(made.blobs) < 2_000
    assert max(map(len, made.blobs.values())) <= 140 * KIB


def _new_bytes(before: Mapping[str, bytes], after: Mapping[str, bytes]) -> int:
    return sum(len(each) for name, each in after.items() if name not in before)
