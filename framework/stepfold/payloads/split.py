"""A large payload as a small document and the blobs that it refers to.

Pure, and the same bytes give the same blobs always: that is what makes a transcript which
is handed to every call cost what was added to it, rather than all of it again. It works from
the inside outwards. A value of more than eight grains is made short: an array, a string or a
large object is cut in parts (`cutting`), an object with few members keeps its keys in sight
and has its long values replaced. What is still longer than 256 bytes becomes a blob itself.

Only the document is kept at up to 4 KiB, since one blob more would be one round trip more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain, islice

from stepfold.payloads.cutting import Cutter, Part, cut_points, opaque_at, together
from stepfold.payloads.document import (
    ARRAY,
    DEPTH_MAX,
    OBJECT,
    TEXT,
    escape,
    has_dollars,
    name_of,
    reference,
)
from stepfold.payloads.outline import (
    TooManyValuesError,
    between_characters,
    escapes,
    outline,
    skip_space,
)
from stepfold.payloads.scan import (
    STEPS_MAX,
    Container,
    elements,
    is_short,
    runs,
    scan,
    value_start,
)

VALUE_INLINE_BYTES_MAX = 256
"""A value that was cut, or that is a member of a large object, and is longer than this becomes a
reference, which has a hundred bytes. So what stays the same in a growing payload costs no more."""
MEMBERS_IN_SIGHT_MAX = 32
"""An object of up to so many members keeps its keys in the text above; a larger one is cut."""
DOCUMENT_BYTES_MAX = 4_096
"""The root of a payload is left in the event up to this; a longer one becomes a blob as well."""

FindValue = Callable[[bytes, int, int], int]


@dataclass(frozen=True, slots=True)
class Split:
    document: bytes
    blobs: Mapping[str, bytes]
    """By name: all that is referred to, from the document on."""


def split(payload: bytes) -> Split:
    """Raises PayloadError where the payload's brackets or quotes do not match."""
    return _Splitter(payload).split()


class _Splitter:
    def __init__(self, payload: bytes) -> None:
        self._payload = payload
        self._escaped = escapes(payload)
        self._has_dollars = has_dollars(payload)
        self._root = skip_space(payload, 0, len(payload))
        self._blobs: dict[str, bytes] = {}
        self._made: dict[int, tuple[Part, int]] = {}
        """By the start of a container: what it became, and its end."""
        self._steps = 0

    def split(self) -> Split:
        try:
            document = self._in_parts()
        except TooManyValuesError:
            document = self._as_one_blob()
        if document.depth > DEPTH_MAX:
            document = self._as_one_blob()
        return Split(document.text, self._blobs)

    def _as_one_blob(self) -> Part:
        self._blobs.clear()
        return self._store(self._literal(0, len(self._payload)))

    def _in_parts(self) -> Part:
        self._outline = outline(self._payload)
        for container in scan(self._outline, opaque_at):
            made = self._settled(self._shortened(container), container.start)
            self._made[container.start] = (made, container.end)
        document = self._with_value(0, self._root, len(self._payload))
        return self._store(document) if len(document.text) > DOCUMENT_BYTES_MAX else document

    def _shortened(self, container: Container) -> Part:
        if self._payload[container.start] == ord("["):
            return self._array(container)
        members = elements(self._outline, container)
        first = list(islice(members, MEMBERS_IN_SIGHT_MAX + 1))
        if len(first) <= MEMBERS_IN_SIGHT_MAX:
            return self._in_sight(first)
        return self._object(chain(first, members))

    def _array(self, container: Container) -> Part:
        cutter = Cutter(ARRAY, self._store)
        for start, end in runs(self._outline, container, self._cuts):
            part = self._element(start, end, skip_space)
            if end == container.end - 1 and is_short(self._outline, start, end):
                return cutter.finish(part)
            cutter.add(part, start)
        return cutter.finish()

    def _object(self, members: Iterable[tuple[int, int]]) -> Part:
        cutter = Cutter(OBJECT, self._store)
        for start, end in members:
            cutter.add(self._element(start, end, value_start), start)
        return cutter.finish()

    def _in_sight(self, members: list[tuple[int, int]]) -> Part:
        texts = [Part(b"{", 1)]
        for start, end in members:
            value = value_start(self._outline, start, end)
            texts.append(self._literal(start, value))
            texts.append(self._short(self._with_value(value, value, end)))
            texts.append(Part(b",", 1))
        texts[-1] = Part(b"}", 1)
        return together(texts)

    def _text(self, start: int, end: int) -> Part:
        """A string from quote to quote, in parts."""
        cutter = Cutter(TEXT, self._store)
        last = start + 1
        for cut in self._cuts(last, end - 1):
            whole = between_characters(self._escaped, last, cut)
            if whole > last:
                cutter.add(Part(self._payload[last:whole], whole - last), last)
                last = whole
        return cutter.finish(Part(self._payload[last : end - 1], end - 1 - last))

    def _element(self, start: int, end: int, find_value: FindValue) -> Part:
        self._steps += 1
        if self._steps > STEPS_MAX:
            raise TooManyValuesError
        if end - start <= opaque_at(start):
            return self._literal(start, end)
        return self._with_value(start, find_value(self._outline, start, end), end)

    def _with_value(self, start: int, value: int, end: int) -> Part:
        """The text from `start` to `end`; the value that begins at `value` is short in it."""
        found = self._made.pop(value, None) or self._long_string(value, end)
        if found is None:
            return self._literal(start, end)
        made, value_end = found
        return together([self._literal(start, value), made, self._literal(value_end, end)])

    def _long_string(self, start: int, end: int) -> tuple[Part, int] | None:
        """What it became, and its end. None if there is no long string and nothing else."""
        if end - start <= opaque_at(start) or self._outline[start] != ord('"'):
            return None
        after = self._outline.index(b'"', start + 1) + 1
        if skip_space(self._outline, after, end) < end:
            return None
        return self._settled(self._text(start, after), start), after

    def _cuts(self, start: int, end: int) -> Iterator[int]:
        return cut_points(self._payload, start, end)

    def _settled(self, part: Part, start: int) -> Part:
        return part if start == self._root else self._short(part)

    def _short(self, part: Part) -> Part:
        return self._store(part) if len(part.text) > VALUE_INLINE_BYTES_MAX else part

    def _literal(self, start: int, end: int) -> Part:
        text = self._payload[start:end]
        return Part(escape(text) if self._has_dollars else text, end - start)

    def _store(self, part: Part) -> Part:
        name = name_of(part.text)
        self._blobs[name] = part.text
        return Part(reference(name, part.size, part.depth), part.size, part.depth + 1)
