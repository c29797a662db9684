"""A stable ordinal for each worker process on this machine.

Static membership gives a restarted process its shards back at once, if it comes back
under the same name; two living processes under one name would throw each other out. So
a supervisor takes the lowest free ordinals by file locks, which the kernel releases
however a process ends.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import socket
import tempfile
from pathlib import Path
from typing import IO

SLOTS_MAX = 1_000


class Slot:
    """One ordinal, held as long as this object's file is open."""

    def __init__(self, ordinal: int, file: IO[str], name: str) -> None:
        self.ordinal = ordinal
        self.instance_id = f"{name}-{ordinal}"
        self._file = file

    def release(self) -> None:
        self._file.close()


def take_slot(bootstrap_servers: str, name: str | None = None) -> Slot:
    """The lowest ordinal that no living supervisor of this user and cluster holds."""
    name = name or socket.gethostname()
    cluster = hashlib.sha256(f"{bootstrap_servers}\n{name}".encode()).hexdigest()[:12]
    folder = Path(tempfile.gettempdir()) / f"stepfold-{os.getuid()}" / cluster
    folder.mkdir(parents=True, exist_ok=True)
    for ordinal in range(SLOTS_MAX):
        file = (folder / f"{ordinal}.lock").open("w")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            continue
        return Slot(ordinal, file, name)
    raise RuntimeError(f"all {SLOTS_MAX} worker slots of {folder} are taken")
