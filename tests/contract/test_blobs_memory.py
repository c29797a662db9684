"""The blobs' contract on memory."""

from __future__ import annotations

import pytest

from stepfold.payloads.memory import MemoryStore
from stepfold.payloads.port import BlobStore
from tests.contract.blob_contract import BlobStoreContract, BlobWorld


class MemoryWorld(BlobWorld):
    def __init__(self) -> None:
        self._store = MemoryStore()

    def store(self) -> BlobStore:
        return self._store


@pytest.fixture
def world() -> BlobWorld:
    return MemoryWorld()


class TestMemoryStore(BlobStoreContract): ...
