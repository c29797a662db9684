"""Blobs in a folder of this machine, or of one that several machines mount.

Written here rather than taken from obstore, whose store for folders renames a file that it
has not flushed (0.12.1, seen with strace): after a power failure the blob could be empty, while
the event that refers to it is safe in Kafka. Here a file is flushed, then renamed to its
place, then its folder is flushed, and only then is the blob stored.
"""

from __future__ import annotations

import asyncio
import os
import time
import uuid
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TypeVar

from stepfold.payloads.errors import BlobRefusedError, BlobUnavailableError
from stepfold.payloads.port import StoredBlob

THREADS = 8
"""Flushes of several files share the disk's work: 300 files take 137 ms one by one and 68 ms so."""
UNFINISHED = "unfinished"
"""The folder of files that are being written. What is left there by a crash is removed."""
UNFINISHED_AGE_MAX_S = 86_400

Result = TypeVar("Result")


class FolderStore:
    """A BlobStore. Makes the folder when something is put."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder.absolute()
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="blobs")
        self._known: set[Path] = set()
        """Folders that outlive a power failure."""

    @property
    def place(self) -> str:
        return str(self._folder)

    async def put(self, key: str, content: bytes, *, unless_since: datetime) -> None:
        await self._do(f"store {key}", self._put, key, content, unless_since)

    async def get(self, key: str) -> bytes | None:
        return await self._do(f"read {key}", _read, self._path(key))

    async def stat(self, key: str) -> StoredBlob | None:
        return await self._do(f"look for {key}", self._stat, key)

    async def move(self, key: str, to: str) -> bool:
        return await self._do(f"move {key}", self._move, key, to)

    async def delete(self, key: str) -> None:
        await self._do(f"delete {key}", partial(self._path(key).unlink, missing_ok=True))

    async def listing(self, prefix: str) -> AsyncIterator[StoredBlob]:
        folders = [self._path(prefix.rstrip("/"))]
        while folders:
            below, found = await self._do(f"list {prefix}", self._scan, folders.pop())
            folders += below
            for each in found:
                yield each

    async def close(self) -> None:
        await asyncio.to_thread(self._threads.shutdown)

    async def _do(self, action: str, call: Callable[..., Result], *arguments: object) -> Result:
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._threads, call, *arguments)
        except PermissionError as error:
            raise BlobRefusedError(action, self.place, _reason(error)) from error
        except OSError as error:
            # Somebody may have removed the folders; then the next try makes them again.
            self._known.clear()
            raise BlobUnavailableError(action, self.place, _reason(error)) from error

    def _path(self, key: str) -> Path:
        return self._folder / key

    def _put(self, key: str, content: bytes, unless_since: datetime) -> None:
        path = self._path(key)
        self._make_durable(path.parent)
        present = self._stat(key)
        if present and present.size_bytes == len(content) and present.modified_at >= unless_since:
            # Somebody else may have renamed it this moment, and not have flushed the folder yet.
            _flush_folder(path.parent)
            return
        temporary = self._unfinished() / uuid.uuid4().hex
        try:
            with temporary.open("xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        _flush_folder(path.parent)

    def _stat(self, key: str) -> StoredBlob | None:
        found = _unless_missing(self._path(key).stat)
        return None if found is None else _stored(key, found)

    def _move(self, key: str, to: str) -> bool:
        source, target = self._path(key), self._path(to)
        self._make_durable(target.parent)
        try:
            # Before the rename: a crash in between leaves a blob that is young at its old place,
            # rather than one that is old at its new one.
            os.utime(source)
            source.replace(target)
        except FileNotFoundError:
            return False
        _flush_folder(target.parent)
        _flush_folder(source.parent)
        return True

    def _scan(self, folder: Path) -> tuple[list[Path], list[StoredBlob]]:
        below: list[Path] = []
        found: list[StoredBlob] = []
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        below.append(Path(entry.path))
                    elif (stat := _unless_missing(entry.stat)) is not None:
                        key = Path(entry.path).relative_to(self._folder).as_posix()
                        found.append(_stored(key, stat))
        except FileNotFoundError:
            pass  # nothing has been put yet
        return below, found

    def _unfinished(self) -> Path:
        folder = self._folder / UNFINISHED
        if folder not in self._known:
            self._make_durable(folder)
            oldest = time.time() - UNFINISHED_AGE_MAX_S
            for each in folder.iterdir():
                stat = _unless_missing(each.stat)
                if stat is not None and stat.st_mtime < oldest:
                    each.unlink(missing_ok=True)
        return folder

    def _make_durable(self, folder: Path) -> None:
        """Makes it, and flushes all of ours that it is in.

        Each once in the life of a process: another may have made it and not have flushed it.
        """
        if folder in self._known:
            return
        if folder.is_relative_to(self._folder) or not folder.exists():
            self._make_durable(folder.parent)
            folder.mkdir(exist_ok=True)
            _flush_folder(folder.parent)
        self._known.add(folder)


def _read(path: Path) -> bytes | None:
    return _unless_missing(path.read_bytes)


def _stored(key: str, stat: os.stat_result) -> StoredBlob:
    modified_at = datetime.fromtimestamp(stat.st_mtime, UTC)
    return StoredBlob(key=key, size_bytes=stat.st_size, modified_at=modified_at)


def _reason(error: OSError) -> str:
    return error.strerror or str(error) or type(error).__name__


def _unless_missing(call: Callable[[], Result]) -> Result | None:
    try:
        return call()
    except FileNotFoundError:
        return None


def _flush_folder(folder: Path) -> None:
    if os.name == "nt":
        return  # Windows cannot, and its file system keeps the order by itself
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
