"""A JSON text with its strings blanked out, so that what is left of its syntax is all syntax.

Every bracket, comma, colon and quote of an outline is JSON's own, and at the same position as
in the text. Looking for one is then a plain search, and most of the work is done in C. A
regular expression that steps over strings would need possessive groups, which match wrongly in
several releases of Python 3.11; here a wrong match would be a payload lost.
"""

from __future__ import annotations

import re

from stepfold.core.errors import PayloadError

SPACE = b" \t\n\r"
STRINGS_MAX = 2_000_000
"""More are not looked at: 64 MiB of empty strings would take a gigabyte while they are."""

_LEADING_SPACE = re.compile(rb"[ \t\n\r]*")
_FIRST_HALF = re.compile(rb"\\u[dD][89abAB]")
_SECOND_HALF = re.compile(rb"\\u[dD][c-fC-F]")
_ESCAPE_BYTES_MAX = 6


class TooManyValuesError(Exception):
    """To look at the values of this payload one by one would take too long."""


def escapes(text: bytes) -> bytes:
    """The text with a zero for the second of two backslashes: each that is left begins an escape.

    They pair up from the left, and a run of them begins behind something else, so a plain
    replacement finds the pairs.
    """
    return text.replace(b"\\\\", b"\\\0") if b"\\" in text else text


def outline(text: bytes) -> bytes:
    """The text with zeros in its strings.

    Raises PayloadError where a string has no end, and TooManyValuesError.
    """
    if text.count(b'"') > 2 * STRINGS_MAX:
        raise TooManyValuesError
    pieces = escapes(text).replace(b'\\"', b"\0\0").split(b'"')
    if len(pieces) % 2 == 0:
        raise not_json(len(text) - len(pieces[-1]) - 1, "a string that is never closed")
    pieces[1::2] = [bytes(len(each)) for each in pieces[1::2]]
    return b'"'.join(pieces)


def skip_space(text: bytes, position: int, end: int) -> int:
    found = _LEADING_SPACE.match(text, position, end)
    return found.end() if found else position


def between_characters(escaped: bytes, start: int, cut: int) -> int:
    """The last place from `start` to `cut` that is not inside a character of a string.

    `escaped` is what `escapes` gives. Nor are two escapes torn apart that name one character
    together: either alone is no text.
    """
    while cut > start and escaped[cut] & 0xC0 == 0x80:
        cut -= 1  # inside a character of several bytes
    backslash = escaped.rfind(b"\\", max(start, cut - _ESCAPE_BYTES_MAX + 1), cut)
    if backslash >= 0:
        length = _ESCAPE_BYTES_MAX if escaped[backslash + 1] == ord("u") else 2
        cut = backslash if backslash + length > cut else cut
    before = cut - _ESCAPE_BYTES_MAX
    if before >= start and _SECOND_HALF.match(escaped, cut) and _FIRST_HALF.match(escaped, before):
        cut = before
    return cut


def not_json(position: int, what: str) -> PayloadError:
    return PayloadError(f"a payload is not JSON: {what} at byte {position}; store JSON text")
