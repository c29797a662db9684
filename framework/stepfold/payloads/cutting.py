"""Where long values are cut, so that values which are partly equal share their parts.

Cuts depend on the bytes right before them, not on how far from the beginning they are: when
something is inserted, the cuts behind it stay where they were, and when something is
appended, all stay. That is content-defined chunking. It is done twice.

*Pieces* are the finest cuts in strings and in runs of numbers: a piece ends where a hash of the
last eight bytes is zero. `bytes.translate` and arithmetic on large integers compute that hash
for all positions at once: 200 KiB take 2.3 ms, and 24 ms in a loop over the bytes.

*Parts* are runs of pieces (or of elements, or of members) that become one blob, and runs of
references to such blobs, and so on: a tree. A part ends where the checksum of its last piece
says so. Only parts that have ended become blobs; the open ends, one of each level, stay
together in the text above. So what is appended changes that text and no part.

Parts are small at the beginning of a payload and larger further in: a transcript of 200 KiB is
cut finely, as each turn repeats the unfinished part, and 64 MiB do not become 64,000 blobs.

All numbers here decide what is shared, never what can be read. A change makes every payload
that is under way be stored once more.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from stepfold.payloads.document import DOLLAR_STRINGS, TEXT, Kind, escape, joint

GRAIN_BYTES_MIN = 1_024
"""How large parts are on average, in the first half MiB of a payload. Transcripts that grow to
200 KiB in 200 turns take, all turns together, 2.1 to 2.6 times that with 512 bytes and with
1 KiB, 2.4 to 2.9 times with 2 KiB and 3.5 to 3.8 times with 4 KiB."""
GRAIN_BYTES_MAX = 65_536
"""64 MiB of messages become 3,000 blobs, and the open end of a transcript of 16 MiB has 32 KiB."""
GRAIN_DOUBLES_AT = 19
"""The grain doubles at 2^19 bytes and at each power of two after it."""
OPAQUE_GRAINS = 8
"""A value of up to so many grains is not cut. Most messages of a conversation are shorter."""

PIECE_BYTES_MIN = 64
PIECE_BYTES_MAX = 1_024
"""Bounds for bytes in which the hash is zero everywhere, or nowhere."""
WINDOW_BYTES = 8
BLOCK_BYTES = 1_048_576
"""How much is hashed at once: 17 ms in eight steps, and integers of this size."""

REFERENCES_MIN = 3
REFERENCES_MAX = 8
"""How many references make a part of references. From the least number on every second one ends
it, so there are four on average, and no list of 64 MiB has more than ten levels."""


class Part(NamedTuple):
    """A text as it stands in a document or blob."""

    text: bytes
    size: int
    """How long it is when it is whole."""
    depth: int = 0
    """How many levels of blobs are below it."""


def together(parts: Sequence[Part]) -> Part:
    """One behind the other."""
    return Part(
        b"".join([each.text for each in parts]),
        sum([each.size for each in parts]),
        max([each.depth for each in parts]),
    )


def grain_at(offset: int) -> int:
    return min(GRAIN_BYTES_MIN << (offset >> GRAIN_DOUBLES_AT).bit_length(), GRAIN_BYTES_MAX)


def opaque_at(offset: int) -> int:
    return OPAQUE_GRAINS * grain_at(offset)


def cut_points(data: bytes, start: int, end: int) -> Iterator[int]:
    """The positions at which pieces end. What is behind the last of them is not complete."""
    last = base = start
    hashes = b""
    while True:
        if last + PIECE_BYTES_MAX > base + len(hashes) < end:
            base = max(start, last - WINDOW_BYTES + 1)
            hashes = _hashes(data[base : min(end, base + BLOCK_BYTES)])
        limit = min(last + PIECE_BYTES_MAX, end)
        found = hashes.find(0, last + PIECE_BYTES_MIN - base, limit - base)
        if found >= 0:
            last = base + found + 1
        elif last + PIECE_BYTES_MAX < end:
            last += PIECE_BYTES_MAX
        else:
            return
        yield last


class Cutter:
    """Makes parts of what is added, in order, and blobs of the parts that have ended."""

    def __init__(self, kind: Kind, store: Callable[[Part], Part]) -> None:
        self._kind = kind
        self._store = store
        self._open: list[Part] = []
        self._open_bytes = 0
        self._references: list[list[Part]] = []
        """By level, the lowest first: references that do not make a part yet."""

    def add(self, piece: Part, offset: int) -> None:
        self._open.append(piece)
        self._open_bytes += len(piece.text)
        if self._ends_with(piece, offset):
            self._refer(self._store(self._joined()), level=0)
            self._open, self._open_bytes = [], 0

    def finish(self, rest: Part | None = None) -> Part:
        """The whole, with `rest` behind all that was added; `rest` ends no part."""
        if rest is not None:
            self._open.append(rest)
        parts = [part for level in reversed(self._references) for part in level]
        if self._open:
            parts.append(self._joined())
        return parts[0] if len(parts) == 1 else self._in_parts(parts)

    def _ends_with(self, piece: Part, offset: int) -> bool:
        if self._open_bytes < GRAIN_BYTES_MIN // 2:
            return False
        half = grain_at(offset) // 2
        if self._open_bytes < half:
            return False
        if self._open_bytes >= 4 * half:
            return True
        # Of all checksums, such a share ends a part that one in `half` bytes does, on average.
        return _scattered(piece.text) * half < len(piece.text) << 32

    def _refer(self, part: Part, level: int) -> None:
        if level == len(self._references):
            self._references.append([])
        siblings = self._references[level]
        siblings.append(part)
        ends = len(siblings) >= REFERENCES_MIN and _scattered(part.text) < 1 << 31
        if ends or len(siblings) == REFERENCES_MAX:
            self._references[level] = []
            self._refer(self._store(self._in_parts(siblings)), level + 1)

    def _joined(self) -> Part:
        opening, separator, closing = self._kind[1:]
        text = opening + separator.join([each.text for each in self._open]) + closing
        if self._kind is TEXT and text.startswith(DOLLAR_STRINGS):
            text = escape(text)
        size = sum(each.size for each in self._open) + 2 + len(separator) * (len(self._open) - 1)
        return Part(text, size, max(each.depth for each in self._open))

    def _in_parts(self, parts: list[Part]) -> Part:
        separators = len(self._kind.separator) * (len(parts) - 1)
        return Part(
            joint(self._kind, [each.text for each in parts]),
            sum(each.size - 2 for each in parts) + 2 + separators,
            max(each.depth for each in parts),
        )


def _hashes(data: bytes) -> bytes:
    """One byte for each position: a hash of the eight bytes that end there."""
    lanes = 0
    for distance, table in enumerate(_TABLES):
        lanes ^= int.from_bytes(data.translate(table), "big") >> 8 * distance
    return lanes.to_bytes(len(data), "big")


def _scattered(text: bytes) -> int:
    """32 bits of a checksum, multiplied so that alike texts differ in the high bits as well."""
    return zlib.crc32(text) * 0x9E3779B1 & 0xFFFFFFFF


def _table(distance: int) -> bytes:
    seeds = (f"stepfold pieces {distance} {part}".encode() for part in range(8))
    return b"".join(hashlib.sha256(seed).digest() for seed in seeds)


_TABLES = [_table(distance) for distance in range(WINDOW_BYTES)]
