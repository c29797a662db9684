"""Reads the most frequent events without reading what no rule looks at.

Decoding an event whole costs 5 to 7 µs, most of it for values that a checker never
asks for; stepping over them costs less than one. So for a few kinds a function is made
from the Avro schema of the writer: it walks over the bytes field by field, takes what is
wanted and steps over the rest. Fields that are not wanted stay *unset* in the event: a
rule that reads one fails at once, instead of judging from an empty value.

It believes nothing: bytes that do not end exactly where the last field ends give None,
and the caller decodes them in the ordinary way, which says what is wrong with them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, TypeAlias, cast

from stepfold.core import events as e
from stepfold.core.errors import CodecError
from stepfold.core.ids import Epoch
from stepfold.journal.codec import HEADER_BYTES, writer_of

QuickEvent: TypeAlias = e.AttemptStarted | e.StepCompleted
Read: TypeAlias = tuple[Epoch, int, QuickEvent]
"""Epoch, number and event of a record."""

WANTED: Mapping[type[Any], frozenset[str]] = {
    e.AttemptStarted: frozenset(
        {"run_id", "step", "attempt", "payload_encoding", "timeout_at", "isolated"}
    ),
    e.StepCompleted: frozenset({"run_id", "step", "attempt", "payload_encoding"}),
}
"""The kinds that are read in this way, and what the rules read of them."""

EPOCH_FIELDS = ("epoch_offset", "epoch_nonce")
"""The first fields of every kind. Their bytes are the same as long as the owner is."""


Walk: TypeAlias = Callable[[bytes, int, Epoch], Read | None]


class QuickReader:
    """Reads records of one epoch, which is that of nearly all that come."""

    def __init__(self) -> None:
        self.epoch = Epoch(-2, 0)
        self._epoch_bytes = b""
        self._size = HEADER_BYTES
        self._walks: dict[bytes, Walk | None] = {}

    def expect(self, epoch: Epoch) -> None:
        """Read the records of this epoch from now on."""
        self.epoch = epoch
        self._epoch_bytes = _long(epoch.offset) + _long(epoch.nonce)
        self._size = HEADER_BYTES + len(self._epoch_bytes)
        self._walks.clear()

    def read(self, value: bytes) -> Read | None:
        """None: it has to be decoded whole."""
        begin = value[: self._size]
        try:
            walk = self._walks[begin]
        except KeyError:
            walk = self._first_met(begin)
        try:
            return walk(value, self._size, self.epoch) if walk is not None else None
        except (IndexError, UnicodeDecodeError):
            return None

    def _first_met(self, begin: bytes) -> Walk | None:
        if not begin.endswith(self._epoch_bytes):
            return None  # not kept: others may write under any number of epochs
        walk = self._walks[begin] = _walk_of(begin[:HEADER_BYTES])
        return walk


def _long(value: int) -> bytes:
    """Avro's encoding: zigzag, then seven bits at a time, the lowest first."""
    rest = (value << 1) ^ (value >> 63)
    encoded = bytearray()
    while rest > 0x7F:
        encoded.append(rest & 0x7F | 0x80)
        rest >>= 7
    encoded.append(rest)
    return bytes(encoded)


@cache
def _walk_of(header: bytes) -> Walk | None:
    try:
        cls, schema = writer_of(header)
    except CodecError:
        return None
    wanted = WANTED.get(cls)
    if wanted is None:
        return None
    fields = [(field["name"], field["type"]) for field in schema["fields"]]
    begins_as_all_do = tuple(name for name, _ in fields[:2]) == EPOCH_FIELDS
    is_plain = all(isinstance(type_, str) and type_ in _STEPS for _, type_ in fields)
    if not begins_as_all_do or not is_plain or not wanted <= {name for name, _ in fields}:
        return None
    return _made(cls, fields[2:], wanted)


def _made(cls: type[Any], fields: list[tuple[str, str]], wanted: frozenset[str]) -> Walk:
    scope: dict[str, Any] = {
        "cls": cls,
        "new": object.__new__,
        **{f"set_{name}": cls.__dict__[name].__set__ for name in wanted},
    }
    lines = ["def walk(v, p, epoch):", "    x = new(cls)"]
    for name, type_ in fields:
        target = "seq" if name == "seq" else "got" if name in wanted else None
        step, take = _STEPS[type_]
        lines += step if target is None else [line.replace("TARGET", target) for line in take]
        if target == "got":
            lines.append(f"    set_{name}(x, got)")
    lines.append("    return (epoch, seq, x) if p == len(v) else None")
    exec("\n".join(lines), scope)
    return cast("Walk", scope["walk"])


_SKIP_LONG = ["    while v[p] > 127: p += 1", "    p += 1"]
_UNSIGNED = [
    "    n = v[p]; p += 1",
    "    if n > 127:",
    "        n &= 127; shift = 7",
    "        while (b := v[p]) > 127:",
    "            n |= (b & 127) << shift; shift += 7; p += 1",
    "        n |= b << shift; p += 1",
]
_TAKE_LONG = [*_UNSIGNED, "    TARGET = (n >> 1) ^ -(n & 1)"]
_SKIP_SIZED = [*_UNSIGNED, "    p += n >> 1"]
_TAKE_BYTES = [*_UNSIGNED, "    n >>= 1", "    TARGET = v[p : p + n]; p += n"]
_TAKE_STRING = [*_UNSIGNED, "    n >>= 1", "    TARGET = v[p : p + n].decode(); p += n"]
_STEPS: Mapping[str, tuple[list[str], list[str]]] = {
    "long": (_SKIP_LONG, _TAKE_LONG),
    "boolean": (["    p += 1"], ["    TARGET = v[p] == 1; p += 1"]),
    "bytes": (_SKIP_SIZED, _TAKE_BYTES),
    "string": (_SKIP_SIZED, _TAKE_STRING),
}
"""By Avro type: the lines that step over a value, and those that take it as TARGET."""
