"""The blobs' contract on a folder, and what a crash or a person can do to one."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import stat
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from stepfold.payloads.errors import BlobUnavailableError
from stepfold.payloads.folder import UNFINISHED, UNFINISHED_AGE_MAX_S, FolderStore
from stepfold.payloads.port import BlobStore
from tests.contract.blob_contract import BlobStoreContract, BlobWorld, keys, put


class FolderWorld(BlobWorld):
    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def store(self) -> BlobStore:
        return FolderStore(self._folder)


@pytest.fixture
def world(tmp_path: Path) -> BlobWorld:
    return FolderWorld(tmp_path / "not made" / "yet")


class TestFolderStore(BlobStoreContract): ...


def test_file_is_flushed_before_it_gets_its_name_and_the_folder_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    rename = Path.replace

    def noted_rename(self: Path, target: Path) -> Path:
        calls.append("rename")
        return rename(self, target)

    def noted_flush(descriptor: int) -> None:
        is_folder = stat.S_ISDIR(os.fstat(descriptor).st_mode)
        calls.append("flush the folder" if is_folder else "flush the file")

    async def claim(store: FolderStore) -> None:
        await put(store, "blobs/aa/first", b"content")
        monkeypatch.setattr(os, "fsync", noted_flush)
        monkeypatch.setattr(Path, "replace", noted_rename)
        await put(store, "blobs/aa/second", b"content")

    on_store(tmp_path, claim)

    assert calls == ["flush the file", "rename", "flush the folder"]


def test_content_that_somebody_else_just_wrote_is_flushed_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed: list[int] = []

    def note(descriptor: int) -> None:
        flushed.append(os.fstat(descriptor).st_ino)

    async def write(store: FolderStore) -> None:
        await put(store, "blobs/aa/x", b"content")

    on_store(tmp_path, write)
    monkeypatch.setattr(os, "fsync", note)

    on_store(tmp_path, write)

    path = [tmp_path.parent, tmp_path, tmp_path / "blobs", tmp_path / "blobs" / "aa"]
    assert flushed == [folder.stat().st_ino for folder in path]


def test_file_that_a_crash_left_unfinished_is_removed_after_a_day(tmp_path: Path) -> None:
    unfinished = tmp_path / UNFINISHED
    unfinished.mkdir()
    old, young = unfinished / "old", unfinished / "young"
    for file in (old, young):
        file.write_bytes(b"hal")
    yesterday = time.time() - UNFINISHED_AGE_MAX_S - 60
    os.utime(old, (yesterday, yesterday))

    async def claim(store: FolderStore) -> None:
        await put(store, "blobs/aa/x", b"content")
        assert await keys(store, "blobs/") == ["blobs/aa/x"]

    on_store(tmp_path, claim)

    assert [each.name for each in unfinished.iterdir()] == ["young"]


def test_write_that_fails_leaves_nothing_and_names_the_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    async def claim(store: FolderStore) -> None:
        await put(store, "blobs/aa/other", b"content")
        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(BlobUnavailableError, match=f"{tmp_path}: No space left on device"):
            await put(store, "blobs/aa/x", b"content")
        assert await store.get("blobs/aa/x") is None

    on_store(tmp_path, claim)

    assert list((tmp_path / UNFINISHED).iterdir()) == []


def test_folder_that_was_removed_is_made_again_at_the_next_try(tmp_path: Path) -> None:
    async def claim(store: FolderStore) -> None:
        await put(store, "blobs/aa/x", b"content")
        shutil.rmtree(tmp_path)
        with pytest.raises(BlobUnavailableError):
            await put(store, "blobs/aa/x", b"content")
        await put(store, "blobs/aa/x", b"content")
        assert await store.get("blobs/aa/x") == b"content"

    on_store(tmp_path, claim)


def test_file_in_place_of_the_folder_is_named(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"")

    async def claim(store: FolderStore) -> None:
        with pytest.raises(BlobUnavailableError, match="File exists"):
            await put(store, "blobs/aa/x", b"content")

    on_store(file, claim)


def on_store(folder: Path, claim: Callable[[FolderStore], Coroutine[Any, Any, None]]) -> None:
    async def run() -> None:
        store = FolderStore(folder)
        try:
            await claim(store)
        finally:
            await store.close()

    asyncio.run(run())
