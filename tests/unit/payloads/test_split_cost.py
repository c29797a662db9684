"""What splitting costs, in bytes and in time.

`python -m tests.unit.payloads.test_split_cost` prints the figures. The bound on time is
generous: it is there to notice a loop over the bytes in Python, not to measure this machine.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable
from functools import partial

import pytest
from pydantic_core import to_json

from stepfold.payloads.split import split
from tests.unit.payloads.samples import call_of, messages, prose

TURNS = 200
KIB = 1_024
MESSAGES = messages(2 * TURNS)
PROSE = prose(2 * TURNS * KIB)
# What every call takes along and never changes: tool descriptions, a system prompt.
TOOLS = [{"name": f"tool {n}", "description": prose(300, n)} for n in range(20)]
EMPTY_LOOPS_MAX = 20

Transcript = Callable[[int], bytes]
TRANSCRIPTS: dict[str, Transcript] = {
    "a list beside tools": lambda turn: call_of({"messages": MESSAGES[:turn], "tools": TOOLS}),
    "a list of strings": lambda turn: call_of([each["content"] for each in MESSAGES[:turn]]),
    "a string among arguments": lambda turn: call_of("m", PROSE[: turn * KIB]),
    "a string of lines": lambda turn: to_json(PROSE[: turn * KIB].replace(" the ", "\n")),
}


@pytest.mark.parametrize("name", TRANSCRIPTS)
def test_growing_transcript_takes_less_than_three_times_its_last_size(name: str) -> None:
    transcript = TRANSCRIPTS[name]

    total = stored_bytes(transcript(turn) for turn in range(1, TURNS + 1))

    last = len(transcript(TURNS))
    sys.stdout.write(
        f"{name}: {TURNS} turns to {last / KIB:.0f} KiB take {total / KIB:.0f} KiB in blobs and "
        f"documents, {total / last:.2f} times as much\n"
    )
    assert last > 0.9 * TURNS * KIB
    assert total < 3 * last


def test_twice_as_many_turns_take_twice_as_much() -> None:
    transcript = TRANSCRIPTS["a string among arguments"]

    once = stored_bytes(transcript(turn) for turn in range(10, TURNS + 1, 10))
    twice = stored_bytes(transcript(turn) for turn in range(10, 2 * TURNS + 1, 10))

    assert twice < 2.2 * once


@pytest.mark.parametrize("name", TRANSCRIPTS)
def test_splitting_costs_less_than_doing_something_with_each_byte(name: str) -> None:
    payload = TRANSCRIPTS[name](TURNS)

    splitting = fastest_ms(lambda: split(payload))

    sys.stdout.write(f"{name}: {len(payload) / KIB:.0f} KiB are split in {splitting:.1f} ms\n")
    assert splitting < EMPTY_LOOPS_MAX * fastest_ms(lambda: loop_over(payload))


def loop_over(payload: bytes) -> None:
    for _ in payload:
        pass


def stored_bytes(payloads: Iterable[bytes]) -> int:
    """What storing one after the other takes: all documents, and each blob once."""
    blobs: dict[str, bytes] = {}
    documents = 0
    for payload in payloads:
        made = split(payload)
        documents += len(made.document)
        blobs.update(made.blobs)
    return documents + sum(map(len, blobs.values()))


def fastest_ms(call: Callable[[], object], times: int = 5) -> float:
    taken: list[float] = []
    for _ in range(times):
        began = time.process_time()
        call()
        taken.append(time.process_time() - began)
    return min(taken) * 1_000


def main() -> None:
    for name, transcript in TRANSCRIPTS.items():
        test_growing_transcript_takes_less_than_three_times_its_last_size(name)
        payload = transcript(TURNS)
        made = split(payload)
        sys.stdout.write(
            f"    the last: {len(made.blobs)} blobs, {len(made.document)} bytes of document, "
            f"split in {fastest_ms(partial(split, payload)):.1f} ms\n"
        )


if __name__ == "__main__":
    main()
