"""What is known about the brokers of a state folder: a JSON file beside their data.

A process id alone proves nothing, because ids are used again: the file also holds when
each broker's process began, by the kernel's clock.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Callable, Generator
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from stepfold.core.errors import ConfigurationError
from stepfold.local import DEFAULT_STATE_DIR

KAFKA_FOLDER = "kafka"
STATE_FILE = "brokers.json"
LOCK_FILE = "lock"
START_TIME_FIELD = 19
"""Of /proc/PID/stat, counted behind the command's closing bracket: starttime (proc(5))."""


class BrokerState(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    node: int
    port: int
    controller_port: int
    pid: int
    began: str
    trains: bool = False
    """Whether it writes Java's ahead-of-time cache when it ends."""


class ClusterState(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    cluster_id: str
    brokers: tuple[BrokerState, ...]

    @property
    def bootstrap_servers(self) -> str:
        return ",".join(f"127.0.0.1:{broker.port}" for broker in self.brokers)


def read_state(folder: Path) -> ClusterState | None:
    """None when no broker was started there. Raises ConfigurationError for an unreadable note.

    Without it nobody could tell whether brokers run on the data beside it.
    """
    path = folder / STATE_FILE
    try:
        return ClusterState.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValidationError) as error:
        why = error.strerror if isinstance(error, OSError) else f"{error.error_count()} errors"
        raise ConfigurationError(
            f"{path} cannot be read ({why}); end the brokers that it may name (`pgrep -f "
            "kafka.Kafka`), then delete this file: the data beside it is found again"
        ) from error


def write_state(folder: Path, state: ClusterState) -> None:
    """Whole or not at all: a reader never sees half a file."""
    new = folder / f"{STATE_FILE}.new"
    new.write_text(state.model_dump_json(indent=2))
    new.replace(folder / STATE_FILE)


def began(pid: int) -> str | None:
    """When the process began, in the kernel's own terms; None when there is none."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return _began_elsewhere(pid)
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] == "Z" and not _has_threads(pid) else fields[START_TIME_FIELD]


def _has_threads(pid: int) -> bool:
    """A killed process shows as ended while other threads of it still hold its files."""
    try:
        return len(list(Path(f"/proc/{pid}/task").iterdir())) > 1
    except OSError:
        return False


def _began_elsewhere(pid: int) -> str | None:
    """Without /proc: that the process lives has to do."""
    if Path("/proc").exists():
        return None
    try:
        os.kill(pid, 0)
    except OSError:
        return None
    return "alive"


def is_alive(broker: BrokerState) -> bool:
    return began(broker.pid) == broker.began


def running_bootstrap_servers(state_dir: Path = DEFAULT_STATE_DIR) -> str | None:
    """The address of the brokers that run from this state folder; None when none does."""
    state = read_state(state_dir / KAFKA_FOLDER)
    if state is None or not any(is_alive(broker) for broker in state.brokers):
        return None
    return state.bootstrap_servers


@contextlib.contextmanager
def exclusively(path: Path, say: Callable[[str], None] = lambda _: None) -> Generator[None]:
    """Hold a file lock: of processes and threads that want it, one goes on at a time.

    The kernel gives it up however a process ends. The file stays, because a lock on a
    file that was deleted keeps nobody out who makes a new one. Raises ConfigurationError
    for a folder that cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = path.open("w")
    except OSError as error:
        raise ConfigurationError(
            f"the folder {path.parent} cannot be written: {error.strerror}; mend that, or name "
            "another one with --state-dir (for Kafka's data) or XDG_CACHE_HOME (for its jars)"
        ) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"waiting for another stepfold, which is at work in {path.parent}")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
