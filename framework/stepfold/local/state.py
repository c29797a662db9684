"""What is known about the brokers of a state folder: a JSON file beside their data.

A process id alone proves nothing, because ids are used again: the file also holds when
each broker's process began, by the kernel's clock.
"""

from __future__ import annotations

import os
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

DEFAULT_STATE_DIR = Path(".stepfold")
KAFKA_FOLDER = "kafka"
STATE_FILE = "brokers.json"
START_TIME_FIELD = 19
"""Of /proc/PID/stat, counted behind the command's closing bracket: starttime (proc(5))."""


class BrokerState(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    node: int
    port: int
    controller_port: int
    pid: int
    began: str


class ClusterState(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    cluster_id: str
    brokers: tuple[BrokerState, ...]

    @property
    def bootstrap_servers(self) -> str:
        return ",".join(f"127.0.0.1:{broker.port}" for broker in self.brokers)


def read_state(folder: Path) -> ClusterState | None:
    """None when there is no readable state: then nothing of ours runs."""
    try:
        return ClusterState.model_validate_json((folder / STATE_FILE).read_text())
    except (OSError, ValidationError):
        return None


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
    return None if fields[0] == "Z" else fields[START_TIME_FIELD]


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
