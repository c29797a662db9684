"""Where the values are in a JSON text, without making values of them.

Python's numbers and strings cannot give back the text that they were read from (`1e400`,
`1.0`, escapes), so everything here is about positions in an outline. One pass by brackets
alone finds the containers that are worth a closer look; commas are looked for only at their
level. Nothing is kept of a small value but its position, 16 bytes.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Callable, Iterator
from itertools import chain
from typing import NamedTuple

from stepfold.payloads.outline import TooManyValuesError, not_json, skip_space

STEPS_MAX = 2_000_000
"""Brackets and elements that are looked at one by one, some 2 µs each. 64 MiB may hold 20 million
empty lists; what would take longer than a few seconds is not worth it."""
NESTED_MAX = 1_000
"""Pydantic reads no deeper than a quarter of this. Each level of a large payload costs 15 µs."""
SHORT_BYTES_MAX = 255
"""Elements up to this long, and without brackets, are taken many at a time."""

_BRACKET = re.compile(rb"[\[\]{}]")

Cuts = Callable[[int, int], Iterator[int]]
"""The positions between two others at which the payload may be cut."""


class Container(NamedTuple):
    """An array or object from `start` up to `end`, brackets included."""

    start: int
    end: int
    children: array[int]
    """The starts and ends of the containers right inside, in turn."""


def scan(outline: bytes, opaque_at: Callable[[int], int]) -> Iterator[Container]:
    """The containers larger than `opaque_at(start)` bytes, which only grows; innermost first.

    Raises PayloadError where brackets do not match, and TooManyValuesError.
    """
    opened = [(-1, array("q"))]
    steps = 0
    least = opaque_at(0)
    for token in _BRACKET.finditer(outline):
        position = token.start()
        bracket = outline[position]
        if bracket in b"[{":
            steps += 1
            if steps > STEPS_MAX or len(opened) > NESTED_MAX:
                raise TooManyValuesError
            opened.append((position, array("q")))
            continue
        start, children = opened.pop()
        # The codes of a bracket and of its counterpart differ by two.
        if not opened or bracket - outline[start] != 2:
            raise not_json(position, "a bracket that does not match")
        opened[-1][1].extend((start, position + 1))
        size = position + 1 - start
        if size > least and size > opaque_at(start):
            yield Container(start, position + 1, children)
    if len(opened) > 1:
        raise not_json(opened[-1][0], "a bracket that is never closed")


def elements(outline: bytes, container: Container) -> Iterator[tuple[int, int]]:
    """Start and end of what is between the brackets and commas, white space included."""
    return _between(container, _commas(outline, container))


def runs(outline: bytes, container: Container, cuts: Cuts) -> Iterator[tuple[int, int]]:
    """The elements of an array, short ones without brackets many at a time.

    Such a run ends at the last comma before the next of the `cuts`, or before an element that
    is not short. So 25,000 names in 200 KiB are 700 steps.
    """
    return _between(container, _ends_of_runs(outline, container, cuts))


def is_short(outline: bytes, start: int, end: int) -> bool:
    """Whether there are only short elements. At the end of an array, such a run may grow."""
    return not (_BRACKET.search(outline, start, end) or any(_long_elements(outline, start, end)))


def value_start(outline: bytes, start: int, end: int) -> int:
    """Where the value of an object's member begins, behind its key and colon."""
    key = skip_space(outline, start, end)
    if key == end:
        return end  # there are no members, only white space
    if outline[key] == ord('"'):
        colon = skip_space(outline, outline.index(b'"', key + 1) + 1, end)
        if outline[colon] == ord(":"):
            return skip_space(outline, colon + 1, end)
    raise not_json(key, "a member that does not begin with a key and a colon")


def _between(container: Container, commas: Iterator[int]) -> Iterator[tuple[int, int]]:
    start = container.start + 1
    for comma in commas:
        yield start, comma
        start = comma + 1
    yield start, container.end - 1


def _gaps(container: Container) -> Iterator[tuple[int, int]]:
    """What is in the container and in none of its children: all its own commas are there."""
    bounds = chain((container.start + 1,), container.children, (container.end - 1,))
    return zip(bounds, bounds, strict=True)


def _commas(outline: bytes, container: Container) -> Iterator[int]:
    for start, end in _gaps(container):
        comma = outline.find(b",", start, end)
        while comma >= 0:
            yield comma
            comma = outline.find(b",", comma + 1, end)


def _ends_of_runs(outline: bytes, container: Container, cuts: Cuts) -> Iterator[int]:
    for gap_start, end in _gaps(container):
        start = gap_start
        if start > container.start + 1:
            # What comes behind a child is the comma that ends its element.
            comma = outline.find(b",", start, end)
            if comma < 0:
                return
            yield comma
            start = comma + 1
        for comma in _ends_between(outline, start, end, cuts):
            yield comma
            start = comma + 1
        if end < container.end - 1 and (comma := outline.rfind(b",", start, end)) >= 0:
            yield comma  # the next child is an element of its own


def _ends_between(outline: bytes, start: int, end: int, cuts: Cuts) -> Iterator[int]:
    position = start
    for long_start, long_end in _long_elements(outline, start, end):
        yield from _ends_among_short(outline, position, long_start, cuts)
        if long_start > position:
            yield long_start - 1
        if long_end == end:
            return
        yield long_end
        position = long_end + 1
    yield from _ends_among_short(outline, position, end, cuts)


def _long_elements(outline: bytes, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Elements that are not short, where there are no brackets. Up to their comma, or `end`."""
    while end - start > SHORT_BYTES_MAX:
        comma = outline.rfind(b",", start, start + SHORT_BYTES_MAX + 1)
        if comma < 0:
            comma = outline.find(b",", start, end)
            yield start, end if comma < 0 else comma
            if comma < 0:
                return
        start = comma + 1


def _ends_among_short(outline: bytes, start: int, end: int, cuts: Cuts) -> Iterator[int]:
    for cut in cuts(start, end) if end - start > SHORT_BYTES_MAX else ():
        comma = outline.rfind(b",", start, cut)
        if comma >= 0:
            yield comma
            start = comma + 1
