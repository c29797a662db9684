"""Payloads for the tests of splitting, and the way back."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Generator, Mapping
from contextlib import contextmanager

import pytest
from pydantic_core import to_json

from stepfold.payloads import cutting, join, scan, split
from stepfold.payloads.split import Split

SIZE_MAX = 1 << 30
WORDS = """the of and to in a is that it was for on are as with his they at be this from have or
by one had not but what all were when we there can an your which their said if do will each"""


def whole(made: Split) -> bytes:
    return joined(made.document, made.blobs)


def joined(document: bytes, blobs: Mapping[str, bytes], size_max: int = SIZE_MAX) -> bytes:
    async def fetch(name: str) -> bytes:
        return blobs[name]

    return asyncio.run(join.join(document, fetch, size_max=size_max))


def referred(made: Split) -> set[str]:
    async def fetch(name: str) -> bytes:
        return made.blobs[name]

    return asyncio.run(join.references(made.document, fetch))


def prose(size: int, seed: int = 1) -> str:
    dice = random.Random(seed)
    return " ".join(dice.choices(WORDS.split(), k=size // 2))[:size]


def messages(count: int, size: int = 980, seed: int = 1) -> list[dict[str, str]]:
    """As an agent sends them to its model: about a KiB each."""
    roles = ("user", "assistant", "tool")
    text = prose(count * size, seed)
    return [
        {"role": roles[n % 3], "content": text[n * size : (n + 1) * size]} for n in range(count)
    ]


def call_of(*args: object, **kwargs: object) -> bytes:
    """The input of a step, as the engine records it."""
    return to_json({"args": args, "kwargs": kwargs})


@contextmanager
def tiny_sizes() -> Generator[None]:
    """All limits a hundredth of what they are, so that short examples go every way."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cutting, "GRAIN_BYTES_MIN", 16)
        patch.setattr(cutting, "GRAIN_BYTES_MAX", 64)
        patch.setattr(cutting, "GRAIN_DOUBLES_AT", 8)
        patch.setattr(cutting, "OPAQUE_GRAINS", 1)
        patch.setattr(cutting, "PIECE_BYTES_MIN", 2)
        patch.setattr(cutting, "PIECE_BYTES_MAX", 12)
        patch.setattr(scan, "SHORT_BYTES_MAX", 8)
        patch.setattr(split, "VALUE_INLINE_BYTES_MAX", 24)
        patch.setattr(split, "MEMBERS_IN_SIGHT_MAX", 3)
        patch.setattr(split, "DOCUMENT_BYTES_MAX", 60)
        yield
