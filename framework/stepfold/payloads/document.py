"""The language of `json+refs`: JSON in which values may lie elsewhere, in blobs.

A document, and the content of every blob, is JSON text with these further forms:

    {"$blob":"sha256-…","bytes":n}            the value is the content of that blob
    {"$blob":"sha256-…","bytes":n,"depth":d}  the same, and the blob refers to others in turn
    {"$array":[a,b,…]}                        one array: the elements of a, then those of b, …
    {"$object":[a,b,…]}                       one object: the members of a, then those of b, …
    {"$text":[a,b,…]}                         one string: a, then b, …

`bytes` is the size of the value's text once it is whole. `depth` says how many further
levels of blobs are below, so a reader knows without a fetch that a blob is a leaf. A blob's
name is the SHA-256 of its content; so no blob can refer to itself, not even by detours.

A string of the payload, key or not, that begins with a dollar sign begins with two of them
here, which is why no payload can be taken for a reference. A single dollar sign is ours: a
reader that meets one which it does not know must refuse the document.

The forms are written without white space and read only so. All else in a text is the payload's
own bytes, white space included: what is put together again is the payload, byte for byte.
This is a format on disk. A change to these forms needs a new name beside `json+refs`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from stepfold.core.errors import PayloadError
from stepfold.payloads.errors import PayloadDamagedError
from stepfold.payloads.outline import TooManyValuesError, outline

PREFIX = "sha256-"
NAME = re.compile(r"sha256-[0-9a-f]{64}")
NESTING_MAX = 64
"""How deep `$array`, `$object` and `$text` may be nested in one text. `split` nests about twenty
at most, because what it leaves in place is short; the limit keeps a forged text off the stack."""
DEPTH_MAX = 100
"""Levels of blobs below a document: so many fetches wait for each other. A payload of 64 MiB has
about ten. `split` stores one that would have more as a single blob, `join` refuses it."""

# A quote before a dollar sign begins a string unless a backslash is before it: what follows the
# quote that ends a string is a comma, a colon, a bracket or white space.
DOLLAR_STRINGS = (b'"$', b'"\\u0024')
_DOLLAR = rb"(?:\$|\\u0024)"
_TO_ESCAPE = re.compile(rb'(?<!\\)"(?=' + _DOLLAR + rb")")
_ESCAPED = re.compile(rb'(?<!\\)"\$(?=' + _DOLLAR + rb")")
_OURS = re.compile(rb'(?<!\\)"\$(?!' + _DOLLAR + rb")[^\"]{0,20}")
_STRUCTURE = re.compile(rb"[\[\]{},]")
_BLOB = re.compile(
    rb'\{"\$blob":"(?P<name>sha256-[0-9a-f]{64})","bytes":(?P<bytes>[1-9][0-9]{0,15})'
    rb'(?:,"depth":(?P<depth>[1-9][0-9]{0,3}))?\}'
)
_JOINT = re.compile(rb'\{"\$(array|object|text)":\[')


class Kind(NamedTuple):
    """Values that can be cut in parts and joined again."""

    name: str
    opening: bytes
    separator: bytes
    closing: bytes


ARRAY = Kind("array", b"[", b",", b"]")
OBJECT = Kind("object", b"{", b",", b"}")
TEXT = Kind("text", b'"', b"", b'"')
KINDS = {kind.name: kind for kind in (ARRAY, OBJECT, TEXT)}


class Reference(NamedTuple):
    name: str
    size: int
    depth: int


@dataclass(slots=True)
class Joint:
    """A value in parts."""

    kind: Kind
    parts: list[Template]

    @property
    def size(self) -> int:
        """Each part brings its delimiters, of which only the outermost stay."""
        inner = sum(size_of(part) - 2 for part in self.parts)
        return inner + 2 + len(self.kind.separator) * (len(self.parts) - 1)


Template = list[bytes | Reference | Joint]
"""A text that was read: the payload's own bytes, and what is to be put between them."""


def name_of(content: bytes) -> str:
    return PREFIX + hashlib.sha256(content).hexdigest()


def reference(name: str, size: int, depth: int) -> bytes:
    below = b',"depth":%d' % depth if depth else b""
    return b'{"$blob":"%b","bytes":%d%b}' % (name.encode(), size, below)


def joint(kind: Kind, parts: list[bytes]) -> bytes:
    return b'{"$%b":[%b]}' % (kind.name.encode(), b",".join(parts))


def has_dollars(payload: bytes) -> bool:
    """Whether there may be something to `escape` in the payload or a part of it."""
    return any(each in payload for each in DOLLAR_STRINGS)


def escape(text: bytes) -> bytes:
    """Double the dollar sign at the beginning of strings."""
    return _TO_ESCAPE.sub(b'"$', text)


def parse(text: bytes, name: str, place: str) -> Template:
    """Raises PayloadDamagedError, naming the text by `name`, if it is not of this language."""
    if b'"$' not in text:
        return [text]
    try:
        return _parse(text) if _OURS.search(text) else [_ESCAPED.sub(b'"', text)]
    except (ValueError, PayloadError, TooManyValuesError) as error:
        raise PayloadDamagedError(
            name, expected="a text of json+refs", found=str(error), place=place
        ) from error


def size_of(template: Template) -> int:
    """The bytes of the value once it is whole."""
    return sum(len(each) if isinstance(each, bytes) else each.size for each in template)


def references_in(template: Template) -> Iterator[Reference]:
    for each in template:
        if isinstance(each, Reference):
            yield each
        elif isinstance(each, Joint):
            for part in each.parts:
                yield from references_in(part)


def depth_of(template: Template) -> int:
    """0 for a text without references, else one more than the deepest of them."""
    return max((each.depth + 1 for each in references_in(template)), default=0)


@dataclass(slots=True)
class _Open:
    """A value in parts that is being read; the outermost is the whole text, with one part."""

    kind: Kind | None
    parts: list[Template] = field(default_factory=lambda: [[]])
    level: int = 0
    """Brackets that are open inside the present part."""
    start: int = 0
    """Where the bytes begin that are the payload's own."""


def _parse(text: bytes) -> Template:
    reading = [_Open(None)]
    after = 0
    for token in _STRUCTURE.finditer(outline(text)):
        here = token.start()
        if here < after:
            continue  # part of one of our forms
        after = here + 1
        if token[0] == b"," and reading[-1].kind is not None and reading[-1].level == 0:
            _take_own(reading[-1], text, here, after)
            reading[-1].parts.append([])
        elif token[0] in b"[{":
            after = _open(reading, text, here)
        elif token[0] in b"]}":
            after = _close(reading, text, here)
    if len(reading) != 1 or reading[0].level != 0:
        raise ValueError("brackets that do not match")
    _take_own(reading[0], text, len(text), len(text))
    return reading[0].parts[0]


def _open(reading: list[_Open], text: bytes, here: int) -> int:
    """Where to read on after an opening bracket, or the form of ours that it begins."""
    current = reading[-1]
    if blob := _BLOB.match(text, here):
        _take_own(current, text, here, blob.end())
        depth = int(blob["depth"] or 0)
        current.parts[-1].append(Reference(blob["name"].decode(), int(blob["bytes"]), depth))
        return blob.end()
    if found := _JOINT.match(text, here):
        _take_own(current, text, here, found.end())
        reading.append(_Open(KINDS[found[1].decode()], start=found.end()))
        if len(reading) > NESTING_MAX:
            raise ValueError(f"values in parts nested deeper than {NESTING_MAX}")
        return found.end()
    current.level += 1
    return here + 1


def _close(reading: list[_Open], text: bytes, here: int) -> int:
    """Where to read on after a closing bracket."""
    current = reading[-1]
    if current.level > 0:
        current.level -= 1
        return here + 1
    if current.kind is None or not text.startswith(b"]}", here):
        raise ValueError(f"a bracket that closes nothing at byte {here}")
    _take_own(current, text, here, here + 2)
    if not all(current.parts):
        raise ValueError(f"an empty part before byte {here}")
    reading.pop()
    reading[-1].parts[-1].append(Joint(current.kind, current.parts))
    reading[-1].start = here + 2
    return here + 2


def _take_own(current: _Open, text: bytes, end: int, after: int) -> None:
    """The payload's own bytes up to `end` belong to the present part; go on at `after`."""
    own = text[current.start : end]
    if own:
        if b'"$' in own:
            if found := _OURS.search(own):
                raise ValueError(f"the unknown form {found[0].decode(errors='replace')}")
            own = _ESCAPED.sub(b'"', own)
        current.parts[-1].append(own)
    current.start = after
