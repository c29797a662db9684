"""What is written: a format on disk, which a later version has to write again in the same way
if it is to share the parts, and has to read in any case."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from typing import Any, cast

import pytest
from pydantic_core import from_json, to_json

from stepfold.payloads import scan
from stepfold.payloads.document import DEPTH_MAX, name_of
from stepfold.payloads.split import split
from tests.unit.house_sources import ROOT
from tests.unit.payloads.samples import call_of, joined, messages, prose, tiny_sizes, whole


def noise(size: int) -> str:
    """The same text in every version of Python."""
    blocks = (hashlib.sha256(str(n).encode()).hexdigest() for n in range(size // 64 + 1))
    return "".join(blocks)[:size]


NOISE = noise(600_000)
PINNED = {
    "list": to_json(
        [{"role": "user", "content": NOISE[n * 500 :][: n % 1_400]} for n in range(900)]
    ),
    "text": to_json(NOISE),
    "object": to_json({NOISE[n * 20 :][:20]: NOISE[n * 90 :][:90] for n in range(3_000)}),
    "numbers": b"[" + b",".join(b"%d.5" % (n * n) for n in range(30_000)) + b"]",
    "call": to_json({"args": ["$", {"$ref": NOISE[:9_000]}], "kwargs": {"model": NOISE[:300]}}),
}
FINGERPRINTS = {
    "list": (738, "185555f7524d8f06"),
    "text": (797, "2388cd9356565a69"),
    "object": (472, "762cc8688ff0259c"),
    "numbers": (500, "7e552ab038ad1abc"),
    "call": (13, "07e74ce1260f7a7c"),
}
"""How many blobs, and a hash of their names and the document. A change here means that what is
stored now is not shared with what was stored before: say so in the changelog."""


@pytest.mark.parametrize("name", PINNED)
def test_same_payload_gives_the_same_blobs_in_every_version(name: str) -> None:
    made = split(PINNED[name])

    names = "\n".join(sorted(made.blobs))
    fingerprint = hashlib.sha256(made.document + names.encode()).hexdigest()
    assert (len(made.blobs), fingerprint[:16]) == FINGERPRINTS[name]


def test_blobs_are_named_by_their_content() -> None:
    made = split(PINNED["list"])

    assert all(name == name_of(content) for name, content in made.blobs.items())


@pytest.mark.parametrize("name", PINNED)
def test_documented_reader_gets_the_value(name: str) -> None:
    made = split(PINNED[name])

    value = documented_reader(made.blobs)
    assert value(json.loads(made.document)) == json.loads(PINNED[name])


@pytest.mark.parametrize(
    "unit",
    [
        pytest.param("日本語😀é".encode(), id="characters of several bytes"),
        pytest.param(b"\\ud83d\\ude00", id="characters in two escapes"),
        pytest.param(b"\\u00e9\\n", id="escapes"),
        pytest.param(b"\\\\", id="backslashes"),
    ],
)
def test_no_character_is_torn_apart(unit: bytes) -> None:
    words = (b"%d" % (n * n) + unit * (n % 9) for n in range(6_000))
    payload = b'"' + b"".join(words) + b'"'

    made = split(payload)

    assert len(made.blobs) > 50
    for content in made.blobs.values():
        from_json(content)  # takes neither half a character nor half an escape


def test_keys_of_a_call_stay_in_sight() -> None:
    made = split(call_of("short", messages=messages(100), model="m", system=prose(2_000)))

    document = json.loads(made.document)

    assert document["args"] == ["short"]
    assert list(document["kwargs"]) == ["messages", "model", "system"]
    assert document["kwargs"]["model"] == "m"
    assert document["kwargs"]["system"]["bytes"] == 2_002
    assert document["kwargs"]["messages"]["bytes"] == len(to_json(messages(100)))


def test_payload_cannot_be_taken_for_a_reference() -> None:
    secret = split(to_json(prose(40_000)))
    name = next(iter(secret.blobs))
    forged = to_json([{"$blob": name, "bytes": 9}, prose(40_000)])

    made = split(forged)

    assert joined(made.document, {**secret.blobs, **made.blobs}) == forged
    assert b'{"$$blob":' in b"".join((made.document, *made.blobs.values()))


def test_payload_with_too_many_values_to_look_at_becomes_one_blob(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(scan, "STEPS_MAX", 1_000)
    payload = to_json([[n] for n in range(20_000)])

    made = split(payload)

    assert list(made.blobs.values()) == [payload]
    assert whole(made) == payload


def test_payload_that_would_need_too_many_levels_becomes_one_blob() -> None:
    payload = b"".join(b'[%d,"%030d",' % (n, n) for n in range(900)) + b"1" + b"]" * 900

    with tiny_sizes():
        made = split(payload)

    assert list(made.blobs.values()) == [payload]
    assert whole(made) == payload
    assert DEPTH_MAX < 900


def documented_reader(blobs: Mapping[str, bytes]) -> Callable[[object], object]:
    """The function that docs/payloads.md gives to others who read the log."""
    page = (ROOT / "docs" / "payloads.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    names: dict[str, Any] = {"json": json, "fetch": blobs.__getitem__}
    exec(code, names)
    return cast("Callable[[object], object]", names["value"])
