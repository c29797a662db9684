"""The payload of a document, put together again from blobs; and which blobs it needs.

Blobs are fetched level by level. Every text is checked against what was said of it above, in
size and in depth, before anything below it is fetched. So a document that lies is found at
the first lie, and the size of the whole is known from the document alone.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable

from stepfold.core.errors import PayloadTooLargeError
from stepfold.payloads.document import (
    DEPTH_MAX,
    Joint,
    Reference,
    Template,
    depth_of,
    parse,
    references_in,
    size_of,
)
from stepfold.payloads.errors import PayloadDamagedError
from stepfold.payloads.fan_out import for_each

FETCHES_MAX = 32
"""At a time, for one document."""
ASSEMBLED_ON_LOOP_BYTES_MAX = 1_048_576
"""A larger payload is put together in a thread: 64 MiB take a tenth of a second."""
DOCUMENT = "a document"
LOG = "the log"
BLOB_STORE = "the blob store"

Fetch = Callable[[str], Awaitable[bytes]]
"""The content of the blob of that name; raises when it is missing or damaged."""


async def join(document: bytes, fetch: Fetch, *, size_max: int) -> bytes:
    """The payload that was split.

    Raises PayloadTooLargeError when it would have more than `size_max` bytes, and
    PayloadDamagedError when something is not as it was written.
    """
    root = parse(document, DOCUMENT, LOG)
    size = size_of(root)
    if size > size_max:
        raise PayloadTooLargeError("a recorded payload", size, size_max)
    blobs = await _fetch_all(root, fetch)
    if size <= ASSEMBLED_ON_LOOP_BYTES_MAX:
        return _assemble(root, blobs)
    return await asyncio.to_thread(_assemble, root, blobs)


async def references(document: bytes, fetch: Fetch, known: set[str] | None = None) -> set[str]:
    """The names of all blobs that the document needs, however far down. Leaves are not fetched.

    Names already in `known` are taken as followed to their end; those found are added to it.
    """
    known = set() if known is None else known
    found: set[str] = set()
    wanted = _unless_too_deep(parse(document, DOCUMENT, LOG))
    while wanted:
        new = {each for each in wanted if each.name not in known}
        found.update(each.name for each in new)
        known.update(each.name for each in new)
        nodes = await _fetch_level([each for each in new if each.depth > 0], fetch)
        wanted = [each for node in nodes for each in references_in(node)]
    return found


async def _fetch_all(root: Template, fetch: Fetch) -> dict[Reference, Template]:
    blobs: dict[Reference, Template] = {}
    wanted: set[Reference] = set(_unless_too_deep(root))
    while wanted:
        level = list(wanted)
        blobs.update(zip(level, await _fetch_level(level, fetch), strict=True))
        below = (each for name in level for each in references_in(blobs[name]))
        wanted = {each for each in below if each not in blobs}
    return blobs


def _unless_too_deep(root: Template) -> list[Reference]:
    depth = depth_of(root)
    if depth > DEPTH_MAX:
        raise PayloadDamagedError(
            DOCUMENT, expected=f"at most {DEPTH_MAX} levels of blobs", found=str(depth), place=LOG
        )
    return list(references_in(root))


async def _fetch_level(wanted: Iterable[Reference], fetch: Fetch) -> list[Template]:
    async def one(each: Reference) -> Template:
        template = parse(await fetch(each.name), each.name, BLOB_STORE)
        said, found = (each.size, each.depth), (size_of(template), depth_of(template))
        if said != found:
            raise PayloadDamagedError(
                each.name,
                expected=f"{said[0]} bytes in {said[1]} further levels, as the text above it says",
                found=f"{found[0]} bytes in {found[1]}",
                place=BLOB_STORE,
            )
        return template

    return await for_each(wanted, one, at_once=FETCHES_MAX)


def _assemble(root: Template, blobs: dict[Reference, Template]) -> bytes:
    uses = Counter(each for template in blobs.values() for each in references_in(template))
    uses.update(references_in(root))
    whole: dict[Reference, bytes] = {}

    def take(each: Reference) -> bytes:
        # What nothing needs any more is let go, so that never much more than two copies exist.
        uses[each] -= 1
        return whole[each] if uses[each] else whole.pop(each)

    for each in sorted(blobs, key=lambda each: each.depth):
        whole[each] = _text(blobs.pop(each), take)
    return _text(root, take)


def _text(template: Template, take: Callable[[Reference], bytes]) -> bytes:
    return b"".join([_text_of(each, take) for each in template])


def _text_of(item: bytes | Reference | Joint, take: Callable[[Reference], bytes]) -> bytes:
    if isinstance(item, bytes):
        return item
    if isinstance(item, Reference):
        return take(item)
    opening, separator, closing = item.kind[1:]
    inner: list[bytes] = []
    for part in item.parts:
        text = _text(part, take)
        if len(text) < 2 or not (text.startswith(opening) and text.endswith(closing)):
            raise PayloadDamagedError(
                f"a part of an {item.kind.name}",
                expected=f"{opening.decode()} … {closing.decode()}",
                found=f"{text[:1].decode(errors='replace')} … {text[-1:].decode(errors='replace')}",
                place=BLOB_STORE,
            )
        inner.append(text[1:-1])
    return opening + separator.join(inner) + closing
