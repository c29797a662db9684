"""Partitions in files: what `stepfold log export` writes and `log verify --from` reads.

A file is one partition of one topic:

    "stepfold-log-1" and a newline
    one line of JSON: {"topic", "topic_id", "partition", "first", "end", "settled"}
    for each record: 36 bytes, big-endian, and the bytes they announce
        int64 offset, int64 timestamp, int32 leader epoch,
        int32 bytes of key, int32 of value (-1: null), int32 of headers, int32 their count
      key, value, headers; a header is int32 bytes of name, int32 of value (-1: null), both
    the same 36 bytes with offset -1, and in place of the timestamp the number of records

So a file that was cut off is noticed, and one that is read for a check needs no more
than a few slices per record.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from struct import Struct, error
from typing import Any, BinaryIO, NamedTuple, cast

from stepfold.core.errors import ConfigurationError, NotFoundError
from stepfold.journal.port import Extent, LogRecord, Scan

MAGIC = b"stepfold-log-1\n"
SUFFIX = ".records"
ROLES = ("history", "inbox", "control", "inbox.dlq")
"""In this order they are copied: what a history tells of is then in its sources' files."""
CHUNK_BYTES = 1 << 20
BATCH_RECORDS = 4_000
NULL = -1
TRAILER_OFFSET = -1

_RECORD = Struct(">qqiiiii")
_HEADER = Struct(">ii")


class _File(NamedTuple):
    path: Path
    extent: Extent
    begin: int
    """Where its records begin."""


def export(scan: Scan, app: str, folder: Path) -> list[Path]:
    """Write all partitions of the app's topics, a file each; returns the files.

    Raises ConfigurationError when one of them exists already.
    """
    places = [(f"{app}.{role}", role) for role in ROLES]
    settled = {
        (topic, partition): scan.extent(topic, partition).settled
        for topic, role in places
        if role == "history"
        for partition in scan.partitions(topic)
    }
    folder.mkdir(parents=True, exist_ok=True)
    written: list[Path] = []
    for topic, _ in places:
        for partition in scan.partitions(topic):
            path = folder / f"{topic}-{partition}{SUFFIX}"
            extent = scan.extent(topic, partition)
            extent = extent._replace(settled=settled.get((topic, partition), extent.settled))
            records = scan.read(topic, partition, extent.first, extent.end, with_headers=True)
            write_partition(path, topic, partition, extent, records)
            written.append(path)
    return written


def write_partition(
    path: Path,
    topic: str,
    partition: int,
    extent: Extent,
    batches: Iterable[Sequence[LogRecord]],
) -> None:
    try:
        with path.open("xb") as file:
            file.write(MAGIC)
            facts = {"topic": topic, "partition": partition, **extent._asdict()}
            file.write(json.dumps(facts).encode() + b"\n")
            count = 0
            for batch in batches:
                file.write(b"".join(map(_packed, batch)))
                count += len(batch)
            file.write(_RECORD.pack(TRAILER_OFFSET, count, 0, NULL, NULL, 0, 0))
    except FileExistsError:
        raise ConfigurationError(
            f"{path} is there already; export into an empty folder, or remove it"
        ) from None


def _packed(record: LogRecord) -> bytes:
    headers = b"".join(
        _HEADER.pack(len(name.encode()), _size(value)) + name.encode() + (value or b"")
        # Kafka lets a header be null, which the port's type does not say.
        for name, value in cast("Sequence[tuple[str, bytes | None]]", record.headers)
    )
    sizes = (_size(record.key), _size(record.value), len(headers), len(record.headers))
    fixed = _RECORD.pack(record.offset, record.timestamp, record.leader_epoch, *sizes)
    return b"".join((fixed, record.key or b"", record.value or b"", headers))


def _size(value: bytes | None) -> int:
    return NULL if value is None else len(value)


class ExportedLog:
    """Exported files, as a Scan. Names of files do not matter; a folder stands for its files.

    Raises ConfigurationError where one cannot be read or is of another app.
    """

    def __init__(self, app: str, paths: Sequence[Path]) -> None:
        self._files: dict[tuple[str, int], _File] = {}
        for path in _expanded(paths):
            topic, partition, file = _opened(path)
            if topic not in {f"{app}.{role}" for role in ROLES}:
                raise ConfigurationError(f"{path} holds {topic}, which is no topic of app {app!r}")
            if (topic, partition) in self._files:
                other = self._files[topic, partition].path
                raise ConfigurationError(f"{path} and {other} both hold {topic}/{partition}")
            self._files[topic, partition] = file

    def partitions(self, topic: str) -> Sequence[int]:
        return sorted(partition for name, partition in self._files if name == topic)

    def extent(self, topic: str, partition: int) -> Extent:
        return self._file(topic, partition).extent

    def read(
        self, topic: str, partition: int, first: int, end: int, *, with_headers: bool = False
    ) -> Iterator[Sequence[LogRecord]]:
        """Raises ConfigurationError when the file is cut off or damaged."""
        found = self._file(topic, partition)
        with found.path.open("rb") as file:
            file.seek(found.begin)
            walk = _Walk(file, found.path, topic, partition, with_headers)
            for batch in walk.batches():
                if batch[0].offset >= first and batch[-1].offset < end:
                    yield batch
                    continue
                some = [record for record in batch if first <= record.offset < end]
                if some:
                    yield some
                if batch[-1].offset >= end:
                    return

    def _file(self, topic: str, partition: int) -> _File:
        try:
            return self._files[topic, partition]
        except KeyError:
            raise NotFoundError(f"no file holds {topic}/{partition}") from None


class _Walk:
    """Reads records off a file, a large piece at a time."""

    def __init__(
        self, file: BinaryIO, path: Path, topic: str, partition: int, with_headers: bool
    ) -> None:
        self._file = file
        self._path = path
        self._topic = topic
        self._partition = partition
        self._with_headers = with_headers
        self._count = 0

    def batches(self) -> Iterator[list[LogRecord]]:
        rest = b""
        while piece := self._file.read(CHUNK_BYTES):
            rest += piece
            batch, taken, is_over = self._records(rest)
            rest = rest[taken:]
            if batch:
                yield batch
            if is_over:
                return
        raise self._damaged("it ends in the middle")

    def _records(self, data: bytes) -> tuple[list[LogRecord], int, bool]:
        """What is whole of the data; the bytes that it takes, and whether the trailer came."""
        found: list[LogRecord] = []
        unpack, fixed, end = _RECORD.unpack_from, _RECORD.size, len(data)
        topic, partition, with_headers = self._topic, self._partition, self._with_headers
        place = 0
        while place + fixed <= end:
            offset, timestamp, epoch, key, value, headers, count = unpack(data, place)
            if offset == TRAILER_OFFSET:
                self._check_count(self._count + len(found), timestamp)
                return found, place + fixed, True
            key_at = place + fixed
            value_at = key_at + max(key, 0)
            headers_at = value_at + max(value, 0)
            if headers_at + headers > end:
                break
            place = headers_at + headers
            fields = (
                topic,
                partition,
                offset,
                epoch,
                timestamp,
                None if key < 0 else data[key_at:value_at],
                None if value < 0 else data[value_at:headers_at],
                self._headers(data[headers_at:place], count) if with_headers else (),
            )
            found.append(LogRecord._make(fields))
        self._count += len(found)
        return found, place, False

    def _headers(self, data: bytes, count: int) -> list[tuple[str, bytes]]:
        found: list[tuple[str, bytes]] = []
        place = 0
        try:
            for _ in range(count):
                name, value = _HEADER.unpack_from(data, place)
                name_at = place + _HEADER.size
                value_at = name_at + name
                place = value_at + max(value, 0)
                text = data[name_at:value_at].decode()
                found.append((text, cast("bytes", None if value < 0 else data[value_at:place])))
        except (error, UnicodeDecodeError):
            raise self._damaged("the headers of a record cannot be read") from None
        return found

    def _check_count(self, found: int, told: int) -> None:
        if found != told:
            raise self._damaged(f"it tells of {told} records and holds {found}")

    def _damaged(self, why: str) -> ConfigurationError:
        return ConfigurationError(f"{self._path} is damaged: {why}; export it again")


def _expanded(paths: Iterable[Path]) -> Iterator[Path]:
    for path in paths:
        if not path.is_dir():
            yield path
            continue
        inside = sorted(path.glob(f"*{SUFFIX}"))
        if not inside:
            raise ConfigurationError(f"folder {path} holds no *{SUFFIX}; see `stepfold log export`")
        yield from inside


def _opened(path: Path) -> tuple[str, int, _File]:
    try:
        with path.open("rb") as file:
            magic, line = file.read(len(MAGIC)), file.readline()
            begin = file.tell()
    except OSError as problem:
        raise ConfigurationError(f"{path} cannot be read: {problem.strerror}") from None
    with contextlib.suppress(ValueError, KeyError, TypeError):
        if magic == MAGIC:
            facts: dict[str, Any] = json.loads(line)
            extent = Extent(*(facts[name] for name in Extent._fields))
            return facts["topic"], facts["partition"], _File(path, extent, begin)
    raise ConfigurationError(f"{path} is no exported partition; see `stepfold log export`")
