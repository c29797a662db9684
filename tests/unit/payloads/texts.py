"""JSON texts at random: every way to write a value, and what is no JSON any more."""

from __future__ import annotations

import random

SPACE = (b"", b"", b"", b" ", b"\n\t ", b"\r\n    ")
NUMBERS = (
    b"0", b"-0", b"-0.0", b"1", b"1.0", b"1e400", b"-1E+02", b"1" * 50, b"0.10", b"true", b"null",
)  # fmt: skip
CHARACTERS = (
    b"a", b"e", b" ", b"$", b"$blob", b"$array", b"\\u0024text", b"\\n", b'\\"', b"\\\\", b"\\/",
    b"\\u00e9", b"\\ud83d\\ude00", b"\\ud83d", b"\\ude00", b"[", b"]", b"{", b"}", b",", b":",
    "é".encode(), "日本語".encode(), "😀".encode(), b'{\\"$blob\\":\\"sha256-0\\"}',
)  # fmt: skip
KEYS = (b'"$blob"', b'"$$blob"', b'"$ref"', b'"$object"', b'"\\u0024text"', b'"a"', b'"a"')
BREAKS = (b"", b'"', b"\\", b"[", b"}", b",", b"$", b"\xff")
DEPTH_MAX = 5


def text(dice: random.Random) -> bytes:
    return dice.choice(SPACE) + _value(dice, DEPTH_MAX) + dice.choice(SPACE)


def breakage(payload: bytes, dice: random.Random) -> bytes:
    broken = bytearray(payload)
    for _ in range(dice.randint(1, 3)):
        at = dice.randrange(len(broken) + 1)
        broken[at : at + dice.randint(0, 2)] = dice.choice(BREAKS)
    return bytes(broken)


def _value(dice: random.Random, depth: int) -> bytes:
    match dice.randrange(6 if depth else 2):
        case 0:
            return dice.choice(NUMBERS)
        case 1:
            return _string(dice)
        case 2 | 3:
            of = [_spaced(dice, _value(dice, depth - 1)) for _ in range(_count(dice, depth))]
            return b"[" + b",".join(of) + b"]"
        case _:
            members = [_member(dice, depth - 1) for _ in range(_count(dice, depth))]
            return b"{" + b",".join(members) + b"}"


def _count(dice: random.Random, depth: int) -> int:
    """Few children at the top, so that some go deep; many near the bottom."""
    return dice.randrange(4 if depth > 1 else 12)


def _member(dice: random.Random, depth: int) -> bytes:
    key = _string(dice) if dice.random() < 0.5 else dice.choice(KEYS)
    return _spaced(dice, key) + b":" + _spaced(dice, _value(dice, depth))


def _string(dice: random.Random) -> bytes:
    return b'"' + b"".join(dice.choices(CHARACTERS, k=dice.randrange(16))) + b'"'


def _spaced(dice: random.Random, inner: bytes) -> bytes:
    return dice.choice(SPACE) + inner + dice.choice(SPACE)
