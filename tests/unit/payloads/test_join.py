"""Documents and blobs that are not as they were written, and documents that ask for too much."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import pytest
from pydantic_core import to_json

from stepfold.core.errors import PayloadTooLargeError
from stepfold.payloads.document import DEPTH_MAX, NESTING_MAX, name_of, reference
from stepfold.payloads.errors import PayloadDamagedError
from stepfold.payloads.join import FETCHES_MAX, join, references
from stepfold.payloads.split import split
from tests.unit.payloads.samples import SIZE_MAX, call_of, joined, messages, prose

LEAF = b'[1,2,"three"]'
LEAF_NAME = name_of(LEAF)
LEAF_REFERENCE = reference(LEAF_NAME, len(LEAF), 0)
BLOBS = {LEAF_NAME: LEAF}


def test_parts_are_joined_each_in_its_way() -> None:
    text = name_of(b'"two "')
    blobs = {**BLOBS, text: b'"two "'}
    array = b'{"$array":[%b,[4, 5]]}' % LEAF_REFERENCE
    made_object = b'{"$object":[{"x":1},{"$$y":"$$2"}]}'
    made_text = b'{"$text":["one ",%b]}' % reference(text, 6, 0)
    document = b'{"a":%b,"o":%b,"t":%b}' % (array, made_object, made_text)

    assert joined(document, blobs) == (
        b'{"a":[1,2,"three",4, 5],"o":{"x":1,"$y":"$2"},"t":"one two "}'
    )


@pytest.mark.parametrize(
    ("document", "what"),
    [
        (b'{"$blob":"sha256-00","bytes":1}', 'the unknown form "\\$blob'),
        (b'{"$blob":"' + LEAF_NAME.encode() + b'","bytes":0}', 'the unknown form "\\$blob'),
        (b'{"$later":1}', 'the unknown form "\\$later'),
        (b'["$later"]', 'the unknown form "\\$later'),
        (b'{"$array":[]}', "an empty part"),
        (b'{"$array":[[1],]}', "an empty part"),
        (b'{"$array":[[1]}', "a bracket that closes nothing"),
        (b'{"$array":[[1]', "brackets that do not match"),
        (b'[{"$array":[[1]],"x":2}]', "a bracket that closes nothing"),
        (b'{"$text":["a]}', "a string that is never closed"),
        (b'{"$array":[' * (NESTING_MAX + 1), f"nested deeper than {NESTING_MAX}"),
        (b'{"$array":[[1],"two"]}', r"expected \[ … \], found"),
        (b'{"$object":[{"a":1},[2]]}', r"expected { … }, found"),
        (b'{"$text":["a",2]}', r'expected " … ", found'),
        (b'{"$text":["a"," "," "]}', None),
    ],
)
def test_document_that_is_none_is_refused_with_its_flaw(document: bytes, what: str | None) -> None:
    if what is None:
        assert joined(document, {}) == b'"a  "'
        return
    with pytest.raises(PayloadDamagedError, match=what):
        joined(document, {})


@pytest.mark.parametrize(
    ("size", "depth"), [(len(LEAF) + 1, 0), (len(LEAF) - 1, 0), (len(LEAF), 1), (1 << 40, 0)]
)
def test_blob_that_is_not_what_was_said_of_it_is_refused(size: int, depth: int) -> None:
    document = reference(LEAF_NAME, size, depth)

    with pytest.raises(PayloadDamagedError, match=f"{LEAF_NAME}.* {size} bytes in {depth} further"):
        joined(document, BLOBS, size_max=1 << 50)


def test_two_references_to_one_blob_must_both_be_true() -> None:
    document = b"[%b,%b]" % (LEAF_REFERENCE, reference(LEAF_NAME, 99, 0))

    with pytest.raises(PayloadDamagedError, match="expected 99 bytes"):
        joined(document, BLOBS)


def test_size_is_refused_before_anything_is_fetched() -> None:
    made = split(to_json(prose(100_000)))

    with pytest.raises(PayloadTooLargeError) as caught:
        joined(made.document, {}, size_max=50_000)

    assert (caught.value.size_bytes, caught.value.limit_bytes) == (100_002, 50_000)


def test_blobs_that_multiply_are_refused_by_their_size() -> None:
    content = LEAF
    blobs = dict(BLOBS)
    size = len(LEAF)
    for depth in range(12):
        content = b"[" + b",".join([reference(name_of(content), size, depth)] * 10) + b"]"
        size = 10 * size + 11
        blobs[name_of(content)] = content

    with pytest.raises(PayloadTooLargeError):
        joined(reference(name_of(content), size, 12), blobs)


def test_chain_of_blobs_is_followed_as_far_as_any_payload_needs_and_no_further() -> None:
    def chain(length: int) -> tuple[bytes, dict[str, bytes]]:
        content, size = b"1", 1
        blobs = {name_of(content): content}
        for depth in range(length - 1):
            content = b"[" + reference(name_of(content), size, depth) + b"]"
            size += 2
            blobs[name_of(content)] = content
        return reference(name_of(content), size, length - 1), blobs

    longest, blobs = chain(DEPTH_MAX)
    assert joined(longest, blobs) == b"[" * (DEPTH_MAX - 1) + b"1" + b"]" * (DEPTH_MAX - 1)

    too_long, blobs = chain(DEPTH_MAX + 1)
    with pytest.raises(PayloadDamagedError, match=f"at most {DEPTH_MAX} levels"):
        joined(too_long, blobs)
    with pytest.raises(PayloadDamagedError, match=f"at most {DEPTH_MAX} levels"):
        asyncio.run(references(too_long, Fetches(blobs).fetch))


def test_each_blob_is_fetched_once_and_a_bounded_number_at_a_time() -> None:
    payload = call_of(messages(300), again=messages(300))
    made = split(payload)
    fetches = Fetches(made.blobs)

    found = asyncio.run(join(made.document, fetches.fetch, size_max=SIZE_MAX))

    assert found == payload
    assert sorted(fetches.names) == sorted(made.blobs)
    assert fetches.most == FETCHES_MAX


def test_references_are_found_without_fetching_leaves() -> None:
    made = split(call_of(messages(300)))
    fetches = Fetches(made.blobs)

    found = asyncio.run(references(made.document, fetches.fetch))

    assert found == set(made.blobs)
    assert len(fetches.names) < 0.4 * len(made.blobs)


def test_references_already_known_are_not_followed_again() -> None:
    first, second = split(call_of(messages(300))), split(call_of(messages(301)))
    fetches = Fetches({**first.blobs, **second.blobs})
    known: set[str] = set()

    asyncio.run(references(first.document, fetches.fetch, known))
    before = len(fetches.names)
    asyncio.run(references(second.document, fetches.fetch, known))

    assert known == set(first.blobs) | set(second.blobs)
    assert len(fetches.names) - before <= 4


def test_failure_of_one_fetch_is_raised_as_it_is() -> None:
    made = split(call_of(messages(300)))

    with pytest.raises(KeyError):
        joined(made.document, {})


class Fetches:
    """Gives blobs after everyone else has had a turn, and counts."""

    def __init__(self, blobs: Mapping[str, bytes]) -> None:
        self.names: list[str] = []
        self.most = 0
        self._now = 0
        self._blobs = blobs

    async def fetch(self, name: str) -> bytes:
        self.names.append(name)
        self._now += 1
        self.most = max(self.most, self._now)
        await asyncio.sleep(0)
        self._now -= 1
        return self._blobs[name]
