"""Names of things in the log.

A run id holds the place of the trigger that started the run: whoever produced the
trigger knows it from Kafka's acknowledgement alone, and whoever holds the id knows
which partition to ask. It is fixed in width and sorts as the triggers did.
"""

from __future__ import annotations

import hashlib
from typing import NamedTuple

ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's base 32: no i, l, o, u
PARTITION_WIDTH = 3
TOPIC_WIDTH = 5
OFFSET_WIDTH = 11
NUMBER_WIDTH = 2
CHILD_OFFSET_MIN = 2**54
"""From here on the offset in a run id is none, but part of a hash."""
RUN_ID_WIDTH = PARTITION_WIDTH + TOPIC_WIDTH + OFFSET_WIDTH + NUMBER_WIDTH + 3

_VALUES = {letter: value for value, letter in enumerate(ALPHABET)}


class Epoch(NamedTuple):
    """A generation of ownership: the offset of its claim, and the claim's nonce."""

    offset: int
    nonce: int


NO_EPOCH = Epoch(-1, 0)
"""In force in a history that holds no claim yet."""


class Position(NamedTuple):
    """A place in a source topic; the topic's id tells a re-created topic from its forerunner."""

    topic_id: str
    partition: int
    offset: int
    leader_epoch: int


NO_POSITION = Position("", -1, -1, -1)
"""The source of an event that no source record caused."""


class RunAddress(NamedTuple):
    """What a run id says."""

    partition: int
    topic: str
    offset: int
    number: int


def short_topic_id(topic_id: str) -> str:
    """Five letters that stand for a Kafka topic id in run ids."""
    digest = hashlib.sha256(topic_id.encode()).digest()
    return _encode(int.from_bytes(digest[:4], "big") >> 7, TOPIC_WIDTH)


def run_id_of(partition: int, topic: str, offset: int, number: int = 0) -> str:
    """The id of the number-th run of the trigger at this place; topic is the short id."""
    return "-".join(
        (
            _encode(partition, PARTITION_WIDTH),
            topic,
            _encode(offset, OFFSET_WIDTH),
            _encode(number, NUMBER_WIDTH),
        )
    )


def child_run_id_of(partition: int, topic: str, parent_run_id: str, step: str) -> str:
    """The id of the run that a step of another run starts; the same whenever it is computed.

    No trigger has its offset, so that the two kinds of id never meet.
    """
    digest = int.from_bytes(hashlib.sha256(f"{parent_run_id}:{step}".encode()).digest()[:8], "big")
    offset, number = CHILD_OFFSET_MIN + (digest >> 10), digest & 0x3FF
    return run_id_of(partition, topic, offset, number)


def is_child(address: RunAddress) -> bool:
    """Whether another run started the run; then no record of an inbox did."""
    return address.offset >= CHILD_OFFSET_MIN


def parse_run_id(run_id: str) -> RunAddress:
    """Raises ValueError when the text is no run id."""
    parts = run_id.split("-")
    widths = (PARTITION_WIDTH, TOPIC_WIDTH, OFFSET_WIDTH, NUMBER_WIDTH)
    if tuple(map(len, parts)) != widths or not set("".join(parts)) <= _VALUES.keys():
        raise ValueError(f"not a run id: {run_id!r}; one looks like {run_id_of(3, '0abcd', 1234)}")
    return RunAddress(_decode(parts[0]), parts[1], _decode(parts[2]), _decode(parts[3]))


def _encode(value: int, width: int) -> str:
    if not 0 <= value < 32**width:
        raise ValueError(f"{value} does not fit into {width} letters of a run id")
    return "".join(ALPHABET[value >> 5 * place & 31] for place in reversed(range(width)))


def _decode(text: str) -> int:
    value = 0
    for letter in text:
        value = value << 5 | _VALUES[letter]
    return value
