"""Whether a broker's data folder is whole enough for Kafka to be started on it.

Kafka answers damage by deleting. It cuts a log off at the first record that it cannot
read, and where the metadata log is gone or short, it deletes the topics that are not in
it any more. So damage is looked for before Kafka sees the folder: what changed since it
was stopped, or, after a crash, whether the last records are whole.
"""

from __future__ import annotations

import fcntl
import json
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

META = "meta.properties"
METADATA_LOG = "__cluster_metadata-0"
SEAL = "stopped.json"
LOCK = ".lock"
GOING = ("-delete", "-stray", "-future")
"""Ends of the names of folders that Kafka has given up."""
BATCH_HEADER = struct.Struct(">qiibI")
"""Base offset, length of what follows these two, leader epoch, magic, CRC-32C of the rest."""
LENGTH_END = 12
CRC_BEGIN = 21
MAGIC = 2
CHECKED_BYTES_MAX = 4 * 1024 * 1024
"""Of the logs whose checksums are computed here after a crash, the metadata log and the
smallest first: some 10 MB/s."""
CRC_POLYNOMIAL = 0x82F63B78


class Damage(NamedTuple):
    """can_cut: Kafka may be let loose on it; it cuts off what is not whole, and nothing else."""

    what: str
    can_cut: bool


class Identity(NamedTuple):
    cluster_id: str
    node: int


def identity_of(data: Path) -> Identity | None:
    """As `meta.properties` has it; None when that is missing or cannot be read."""
    try:
        lines = (data / META).read_text().splitlines()
        fields = dict(line.split("=", 1) for line in lines if "=" in line)
        return Identity(fields["cluster.id"], int(fields["node.id"]))
    except (OSError, ValueError, KeyError):
        return None


def is_in_use(data: Path) -> bool:
    """Whether a broker has the folder open: Kafka holds a lock as long as it runs."""
    try:
        with (data / LOCK).open("r+b") as lock:
            fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def seal(data: Path) -> None:
    """Note how the logs are: Kafka has ended in order, and nobody writes them until it begins."""
    sizes = {path: [stat.st_size, stat.st_mtime_ns] for path, stat in _logs(data)}
    (data.parent / SEAL).write_text(json.dumps(sizes))


def unseal(data: Path) -> None:
    """Kafka is about to write."""
    (data.parent / SEAL).unlink(missing_ok=True)


def damage_of(data: Path, expected: Identity) -> Damage | None:
    """What is wrong with a folder that was formatted once."""
    identity = identity_of(data)
    if identity is None:
        return Damage(f"{META} is missing or cannot be read", can_cut=False)
    if identity.cluster_id != expected.cluster_id:
        what = f"it belongs to cluster {identity.cluster_id}, and not to {expected.cluster_id}"
        return Damage(what, can_cut=False)
    if identity.node != expected.node:
        what = f"it belongs to broker {identity.node}, and not to {expected.node}"
        return Damage(what, can_cut=False)
    sealed = _sealed(data)
    now = {path: [stat.st_size, stat.st_mtime_ns] for path, stat in _logs(data)}
    if sealed is None or _ran_since(now, sealed):
        found = _unsealed_damage(data)
    else:
        found = _changed(now, sealed)
    if found is None:
        return None
    path, what = found
    return Damage(f"{path}: {what}", can_cut=METADATA_LOG not in path)


def _sealed(data: Path) -> dict[str, list[int]] | None:
    try:
        text = (data.parent / SEAL).read_text()
        return {str(path): list(map(int, facts)) for path, facts in json.loads(text).items()}
    except (OSError, ValueError, AttributeError, TypeError):
        return None


def _ran_since(now: dict[str, list[int]], sealed: dict[str, list[int]]) -> bool:
    """Whether Kafka was started on the folder by other means: its metadata log has grown."""
    return any(
        path.startswith(METADATA_LOG) and size > sealed.get(path, [0])[0]
        for path, (size, _) in now.items()
    )


def _changed(now: dict[str, list[int]], sealed: dict[str, list[int]]) -> tuple[str, str] | None:
    for path, (size, mtime) in sealed.items():
        if path not in now:
            return path, f"gone since Kafka was stopped, with {size} bytes"
        if now[path][0] != size:
            return path, f"{now[path][0]} bytes, and {size} when Kafka was stopped"
        if now[path][1] != mtime:
            return path, "written to since Kafka was stopped"
    return None


def _unsealed_damage(data: Path) -> tuple[str, str] | None:
    """After a crash: only the end of each log was being written."""
    last: dict[str, str] = {}
    for path, _ in _logs(data):
        folder = path.rpartition("/")[0]
        last[folder] = max(path, last.get(folder, ""))
    if last and METADATA_LOG not in last:
        return METADATA_LOG, "gone, and with it what topics there are"
    budget = CHECKED_BYTES_MAX
    for path in sorted(last.values(), key=lambda path: _rank(data, path)):
        size = (data / path).stat().st_size
        checks = size <= budget
        budget -= size if checks else 0
        what = _broken_record(data / path, checks=checks)
        if what is not None:
            return path, what
    return None


def _rank(data: Path, path: str) -> tuple[bool, int]:
    return METADATA_LOG not in path, (data / path).stat().st_size


def _logs(data: Path) -> Iterator[tuple[str, os.stat_result]]:
    for path in sorted(data.glob("*/*.log")):
        if not path.parent.name.endswith(GOING):
            yield path.relative_to(data).as_posix(), path.stat()


def _broken_record(path: Path, *, checks: bool) -> str | None:
    """Where the chain of record batches breaks off; checks: compute checksums as well."""
    size = path.stat().st_size
    at, offset = 0, -1
    with path.open("rb") as file:
        while at < size:
            file.seek(at)
            header = file.read(BATCH_HEADER.size)
            if len(header) < BATCH_HEADER.size:
                return f"the last record is cut off at byte {size}"
            base, length, _, magic, crc = BATCH_HEADER.unpack(header)
            end = at + LENGTH_END + length
            if magic != MAGIC or base <= offset or end <= at + CRC_BEGIN:
                return f"no record at byte {at}, where one should begin"
            if end > size:
                return f"the last record is cut off at byte {size}, and would reach to {end}"
            if checks:
                file.seek(at + CRC_BEGIN)
                if _crc_32c(file.read(end - at - CRC_BEGIN)) != crc:
                    return f"the record at byte {at} does not have its checksum"
            at, offset = end, base
    return None


def _table() -> list[int]:
    table: list[int] = []
    for value in range(256):
        crc = value
        for _ in range(8):
            crc = crc >> 1 ^ (CRC_POLYNOMIAL if crc & 1 else 0)
        table.append(crc)
    return table


_CRC_TABLE = _table()


def _crc_32c(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _CRC_TABLE[(crc ^ byte) & 0xFF] ^ crc >> 8
    return crc ^ 0xFFFFFFFF
