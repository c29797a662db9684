"""Starts, stops and describes the brokers of a state folder.

Every operation holds a file lock, so that two at once become one after the other.
Brokers run in sessions of their own and outlive whoever started them.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import os
import secrets
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path

from stepfold.core.errors import ConfigurationError, ConflictError, KafkaError
from stepfold.local import artifacts
from stepfold.local.broker import BrokerPlan, format_storage, launch, why_it_died, write_files
from stepfold.local.state import (
    DEFAULT_STATE_DIR,
    KAFKA_FOLDER,
    STATE_FILE,
    BrokerState,
    ClusterState,
    began,
    is_alive,
    read_state,
    write_state,
)

PORT_DEFAULT = 9092
PORTS_TRIED_MAX = 200
START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 15.0
CHECK_S = 0.05
FREE_BYTES_MIN = 300 * 1024 * 1024
"""Below this much free disk a broker is not started: a full disk breaks its log."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalKafkaInfo:
    bootstrap_servers: str
    brokers: int
    pids: tuple[int, ...]
    started: bool  # False: it ran already
    ready_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalKafkaStatus:
    running: bool
    bootstrap_servers: str
    brokers: int
    pids: tuple[int, ...]
    data_dir: Path


class LocalKafka:
    """brokers: 1 or 3. port: the first to try; one in use is passed over, and said."""

    def __init__(
        self,
        state_dir: Path = DEFAULT_STATE_DIR,
        *,
        brokers: int = 1,
        port: int | None = None,
    ) -> None:
        if not 1 <= brokers <= 9:
            raise ConfigurationError(f"brokers must be 1 to 9, got {brokers}")
        self._folder = state_dir.absolute() / KAFKA_FOLDER
        self._count = brokers
        self._port = port or PORT_DEFAULT
        self._processes: dict[int, subprocess.Popen[bytes]] = {}

    def start(
        self, timeout_s: float = START_TIMEOUT_S, say: Callable[[str], None] | None = None
    ) -> LocalKafkaInfo:
        """Blocks until the brokers answer. Raises KafkaError, ConfigurationError, ConflictError."""
        say = say or (lambda _: None)
        begun = time.monotonic()
        with self._locked():
            state = read_state(self._folder)
            if state is not None and all(map(is_alive, state.brokers)):
                return self._already(state, begun)
            java, jars = artifacts.java(), artifacts.jars(say)
            self._check_disk()
            state = self._plan_state(state, say)
            plans = self._plans(state)
            for plan in plans:
                write_files(plan)
                format_storage(plan, java, jars, state.cluster_id)
            brokers = [
                broker if is_alive(broker) else self._launch(plan, broker, java, jars)
                for plan, broker in zip(plans, state.brokers, strict=True)
            ]
            state = state.model_copy(update={"brokers": tuple(brokers)})
            write_state(self._folder, state)
            for plan, broker in zip(plans, state.brokers, strict=True):
                self._wait_ready(plan, broker, begun + timeout_s)
        pids = tuple(broker.pid for broker in state.brokers)
        ready_s = time.monotonic() - begun
        return LocalKafkaInfo(
            bootstrap_servers=state.bootstrap_servers,
            brokers=len(pids),
            pids=pids,
            started=True,
            ready_s=ready_s,
        )

    def stop(self) -> bool:
        """Whether anything ran. Data stays."""
        with self._locked():
            state = read_state(self._folder)
            living = [b for b in state.brokers if is_alive(b)] if state is not None else []
            for broker in living:
                self._end(broker, signal.SIGTERM)
            deadline = time.monotonic() + STOP_TIMEOUT_S
            for broker in living:
                if not self._wait_gone(broker, deadline):
                    self._end(broker, signal.SIGKILL)
                    self._wait_gone(broker, time.monotonic() + STOP_TIMEOUT_S)
            return bool(living)

    def status(self) -> LocalKafkaStatus:
        state = read_state(self._folder)
        living = [b for b in state.brokers if is_alive(b)] if state is not None else []
        return LocalKafkaStatus(
            running=bool(living),
            bootstrap_servers=state.bootstrap_servers if state is not None and living else "",
            brokers=len(living),
            pids=tuple(broker.pid for broker in living),
            data_dir=self._folder,
        )

    def reset(self) -> None:
        """Delete all data. Raises ConflictError while a broker runs."""
        if self.status().running:
            raise ConflictError(
                f"the brokers of {self._folder} are running; `stepfold kafka stop` first"
            )
        if self._folder.exists():
            shutil.rmtree(self._folder)

    def kill_broker(self, index: int) -> None:
        """End one broker at once, as a crash would; for fault tests."""
        broker = self._state().brokers[index]
        self._end(broker, signal.SIGKILL)
        self._wait_gone(broker, time.monotonic() + STOP_TIMEOUT_S)

    def start_broker(self, index: int, timeout_s: float = START_TIMEOUT_S) -> None:
        """Start one broker again, on its port and data."""
        with self._locked():
            state = self._state()
            plan = self._plans(state)[index]
            java, jars = artifacts.java(), artifacts.jars(lambda _: None)
            broker = self._launch(plan, state.brokers[index], java, jars)
            brokers = (*state.brokers[:index], broker, *state.brokers[index + 1 :])
            write_state(self._folder, state.model_copy(update={"brokers": brokers}))
            self._wait_ready(plan, broker, time.monotonic() + timeout_s)

    def _state(self) -> ClusterState:
        state = read_state(self._folder)
        if state is None:
            raise ConflictError(f"no broker was started in {self._folder}")
        return state

    def _already(self, state: ClusterState, begun: float) -> LocalKafkaInfo:
        if len(state.brokers) != self._count:
            raise ConflictError(
                f"{len(state.brokers)} brokers run in {self._folder}, {self._count} were asked for;"
                " `stepfold kafka stop`, then `reset`, or use another state folder"
            )
        return LocalKafkaInfo(
            bootstrap_servers=state.bootstrap_servers,
            brokers=len(state.brokers),
            pids=tuple(broker.pid for broker in state.brokers),
            started=False,
            ready_s=time.monotonic() - begun,
        )

    def _plan_state(self, old: ClusterState | None, say: Callable[[str], None]) -> ClusterState:
        """Ports and ids: those of before where they are free, new ones otherwise."""
        if old is not None and len(old.brokers) != self._count:
            raise ConflictError(
                f"{self._folder} holds a cluster of {len(old.brokers)} brokers, {self._count} were"
                " asked for; use another state folder, or `stepfold kafka reset`"
            )
        taken: set[int] = set()
        brokers: list[BrokerState] = []
        for node in range(1, self._count + 1):
            before = old.brokers[node - 1] if old is not None else None
            if before is not None and is_alive(before):
                brokers.append(before)
                taken |= {before.port, before.controller_port}
                continue
            wanted = before.port if before is not None else self._port
            port = _free_port(wanted, taken)
            if port != wanted and node == 1:
                say(f"port {wanted} is in use, Kafka listens on {port}")
            taken.add(port)
            inner = _free_port(before.controller_port if before else port + 1, taken)
            taken.add(inner)
            brokers.append(
                BrokerState(node=node, port=port, controller_port=inner, pid=0, began="")
            )
        cluster_id = old.cluster_id if old is not None else _new_cluster_id()
        return ClusterState(cluster_id=cluster_id, brokers=tuple(brokers))

    def _plans(self, state: ClusterState) -> list[BrokerPlan]:
        voters = [(broker.node, broker.controller_port) for broker in state.brokers]
        return [
            BrokerPlan(
                node=broker.node,
                port=broker.port,
                controller_port=broker.controller_port,
                folder=self._folder / f"broker-{broker.node}",
                voters=voters,
            )
            for broker in state.brokers
        ]

    def _launch(
        self, plan: BrokerPlan, broker: BrokerState, java: Path, jars: list[Path]
    ) -> BrokerState:
        plan.log.unlink(missing_ok=True)
        aot = artifacts.cache_folder() / "kafka.aot"
        process = launch(plan, java, jars, aot)
        self._processes[process.pid] = process
        # Somebody has to take note of its end, or it stays behind as a zombie of ours.
        threading.Thread(target=process.wait, daemon=True, name=f"broker-{plan.node}").start()
        return broker.model_copy(update={"pid": process.pid, "began": began(process.pid) or ""})

    def _wait_ready(self, plan: BrokerPlan, broker: BrokerState, deadline: float) -> None:
        from confluent_kafka import KafkaException
        from confluent_kafka.admin import AdminClient

        admin = AdminClient({"bootstrap.servers": f"127.0.0.1:{plan.port}", "log_level": 0})
        while is_alive(broker):
            with contextlib.suppress(KafkaException):
                if len(admin.list_topics(timeout=1.0).brokers) >= self._count:
                    return
            if time.monotonic() > deadline:
                raise KafkaError(
                    f"the broker on port {plan.port} did not answer in time; see {plan.log}"
                )
            time.sleep(CHECK_S)
        raise why_it_died(plan)

    def _end(self, broker: BrokerState, number: signal.Signals) -> None:
        if is_alive(broker):
            with contextlib.suppress(ProcessLookupError):
                os.kill(broker.pid, number)

    def _wait_gone(self, broker: BrokerState, deadline: float) -> bool:
        while is_alive(broker):
            if time.monotonic() > deadline:
                return False
            time.sleep(CHECK_S)
        return True

    def _check_disk(self) -> None:
        free = shutil.disk_usage(self._folder).free
        if free < FREE_BYTES_MIN:
            raise KafkaError(
                f"the disk of {self._folder} has {free // 2**20} MiB free, Kafka needs "
                f"{FREE_BYTES_MIN // 2**20}; free some space"
            )

    @contextlib.contextmanager
    def _locked(self) -> Generator[None]:
        self._folder.mkdir(parents=True, exist_ok=True)
        with (self._folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def _new_cluster_id() -> str:
    return base64.urlsafe_b64encode(secrets.token_bytes(16)).decode().rstrip("=")


def _free_port(wanted: int, taken: set[int]) -> int:
    for port in range(wanted, wanted + PORTS_TRIED_MAX):
        if port in taken:
            continue
        with socket.socket() as probe:
            # A connection that waits to be forgotten does not make a port unusable.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with contextlib.suppress(OSError):
                probe.bind(("127.0.0.1", port))
                return port
    raise KafkaError(f"no free port from {wanted} to {wanted + PORTS_TRIED_MAX - 1}")


__all__ = ["STATE_FILE", "LocalKafka", "LocalKafkaInfo", "LocalKafkaStatus"]
