"""Starts, stops and describes the brokers of a state folder.

Every operation that changes something holds a file lock, so that two at once become one
after the other. Brokers run in sessions of their own and outlive whoever started them;
a start that fails or is interrupted ends those that it started.
"""

from __future__ import annotations

import base64
import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from stepfold.core.errors import ConfigurationError, ConflictError, KafkaError
from stepfold.local import DEFAULT_STATE_DIR, artifacts, data, ports
from stepfold.local.broker import (
    JVM,
    BrokerPlan,
    corrupt,
    format_storage,
    launch,
    what_was_cut,
    why_it_died,
    write_files,
)
from stepfold.local.interrupts import held_back
from stepfold.local.state import (
    KAFKA_FOLDER,
    LOCK_FILE,
    BrokerState,
    ClusterState,
    began,
    exclusively,
    is_alive,
    read_state,
    write_state,
)

BROKERS_MAX = 9
START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 15.0
TRAINED_TIMEOUT_S = 60.0
"""For a broker that writes Java's ahead-of-time cache when it ends; with a free processor
it takes 4 s."""
ABORT_TIMEOUT_S = 3.0
CHECK_S = 0.02
FREE_BYTES_MIN = 300 * 1024 * 1024
"""Below this much free disk a broker is not started: a full disk breaks its log."""

Say = Callable[[str], None]


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
    brokers: int  # those that run
    brokers_total: int
    pids: tuple[int, ...]
    data_dir: Path


def quietly(_: str) -> None:
    """Say nothing."""


class LocalKafka:
    """brokers: 1 or 3; None: as many as there were. port: the first to try; None: as before."""

    def __init__(
        self,
        state_dir: Path = DEFAULT_STATE_DIR,
        *,
        brokers: int | None = None,
        port: int | None = None,
    ) -> None:
        if brokers is not None and not 1 <= brokers <= BROKERS_MAX:
            raise ConfigurationError(f"brokers must be 1 to {BROKERS_MAX}, got {brokers}")
        self._folder = state_dir.absolute() / KAFKA_FOLDER
        self._asked = brokers
        self._port = port
        self._processes: dict[int, subprocess.Popen[bytes]] = {}

    def start(
        self,
        timeout_s: float = START_TIMEOUT_S,
        say: Say | None = None,
        *,
        cut_damage: bool = False,
    ) -> LocalKafkaInfo:
        """Blocks until the brokers answer. Raises KafkaError, ConfigurationError, ConflictError.

        cut_damage: let Kafka cut off what is not whole in its logs, instead of refusing.
        """
        say = say or quietly
        begun = time.monotonic()
        with exclusively(self._folder / LOCK_FILE, say):
            state = read_state(self._folder)
            self._check_count(state)
            started = state is None or not all(map(is_alive, state.brokers))
            if state is None or started:
                java, jars = artifacts.java(), artifacts.jars(say)
                self._check_disk()
                state = self._planned(state, say)
                plans = self._plans(state)
                for plan, broker in zip(plans, state.brokers, strict=True):
                    if not is_alive(broker):
                        self._prepare(plan, state, java, jars, cut_damage)
                state = self._launch_missing(state, java, jars, begun + timeout_s)
                for line in (line for plan in plans for line in what_was_cut(plan)):
                    say(f"Kafka lost records: {line}")
            else:
                self._wait_all_ready(state, begun + timeout_s)
        return LocalKafkaInfo(
            bootstrap_servers=state.bootstrap_servers,
            brokers=len(state.brokers),
            pids=tuple(broker.pid for broker in state.brokers),
            started=started,
            ready_s=time.monotonic() - begun,
        )

    def stop(self, say: Say | None = None) -> bool:
        """Whether anything ran. Data stays."""
        with exclusively(self._folder / LOCK_FILE):
            state = read_state(self._folder)
            living = [b for b in state.brokers if is_alive(b)] if state is not None else []
            if state is not None and living:
                self._end_all(state, living, say or quietly)
            return bool(living)

    def status(self) -> LocalKafkaStatus:
        state = read_state(self._folder)
        living = [b for b in state.brokers if is_alive(b)] if state is not None else []
        return LocalKafkaStatus(
            running=bool(living),
            bootstrap_servers=state.bootstrap_servers if state is not None and living else "",
            brokers=len(living),
            brokers_total=len(state.brokers) if state is not None else 0,
            pids=tuple(broker.pid for broker in living),
            data_dir=self._folder,
        )

    def reset(self) -> None:
        """Delete all data. Raises ConflictError while a broker runs."""
        with exclusively(self._folder / LOCK_FILE):
            folders = [self._folder / name for name in self._broker_folders()]
            in_use = any(data.is_in_use(folder / "data") for folder in folders)
            if in_use or self._is_known_to_run():
                raise ConflictError(
                    f"the brokers of {self._folder} are running; `stepfold kafka stop` first"
                )
            for path in self._folder.iterdir():
                if path.name == LOCK_FILE:
                    continue
                if path.is_dir():
                    shutil.rmtree(path)
                else:
                    path.unlink()

    def kill_broker(self, index: int) -> None:
        """End one broker at once, as a crash would; for fault tests."""
        _kill(self._state().brokers[index])

    def start_broker(self, index: int, timeout_s: float = START_TIMEOUT_S) -> None:
        """Start one broker again, on its port and data, whatever they look like."""
        with exclusively(self._folder / LOCK_FILE):
            state = self._state()
            java, jars = artifacts.java(), artifacts.jars(quietly)
            state = self._launch(state, index, java, jars)
            self._wait_ready(state, index, time.monotonic() + timeout_s)

    # What is there

    def _state(self) -> ClusterState:
        state = read_state(self._folder)
        if state is None:
            raise ConflictError(f"no broker was started in {self._folder}")
        return state

    def _is_known_to_run(self) -> bool:
        with contextlib.suppress(ConfigurationError):
            state = read_state(self._folder)
            return state is not None and any(map(is_alive, state.brokers))
        return False

    def _broker_folders(self) -> list[str]:
        return sorted(path.name for path in self._folder.glob("broker-*"))

    def _check_count(self, state: ClusterState | None) -> None:
        there = len(state.brokers) if state is not None else len(self._broker_folders())
        if self._asked is not None and there and self._asked != there:
            raise ConflictError(
                f"{self._folder} holds a cluster of {there} brokers, {self._asked} were asked for; "
                "use another --state-dir, or `stepfold kafka stop` and `stepfold kafka reset`, "
                "which deletes its data"
            )

    def _check_disk(self) -> None:
        free = shutil.disk_usage(self._folder).free
        if free < FREE_BYTES_MIN:
            raise KafkaError(
                f"the disk of {self._folder} has {free // 2**20} MiB free, Kafka needs "
                f"{FREE_BYTES_MIN // 2**20}; free some space, then start again: nothing was deleted"
            )

    # Beginning

    def _planned(self, old: ClusterState | None, say: Say) -> ClusterState:
        """Ports and ids: those of before where they are free, new ones otherwise."""
        count = len(old.brokers) if old is not None else len(self._broker_folders())
        before = old.brokers if old is not None else (None,) * (count or self._asked or 1)
        chosen = ports.choose(before, self._port, say)
        return ClusterState(
            cluster_id=old.cluster_id if old is not None else self._found_cluster_id(),
            brokers=tuple(chosen),
        )

    def _found_cluster_id(self) -> str:
        """Of data whose state file is gone; else a new one."""
        for name in self._broker_folders():
            identity = data.identity_of(self._folder / name / "data")
            if identity is not None:
                return identity.cluster_id
        return base64.urlsafe_b64encode(secrets.token_bytes(16)).decode().rstrip("=")

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

    def _prepare(
        self,
        plan: BrokerPlan,
        state: ClusterState,
        java: Path,
        jars: Sequence[Path],
        cut_damage: bool,
    ) -> None:
        if data.is_in_use(plan.data):
            raise ConflictError(
                f"a broker that {self._folder} has no note of uses {plan.data}; find it with "
                f"`fuser {plan.data / data.LOCK}` and end it"
            )
        write_files(plan)
        if not plan.data.exists():
            format_storage(plan, java, jars, state.cluster_id)
            return
        damage = data.damage_of(plan.data, data.Identity(state.cluster_id, plan.node))
        if damage is not None and not (damage.can_cut and cut_damage):
            raise corrupt(plan, damage)

    def _launch_missing(
        self, state: ClusterState, java: Path, jars: Sequence[Path], deadline: float
    ) -> ClusterState:
        launched: list[int] = []
        try:
            for index, broker in enumerate(state.brokers):
                if not is_alive(broker):
                    # Between the start of a process and the note of it nothing may come.
                    with held_back(signal.SIGINT):
                        launched.append(index)
                        state = self._launch(state, index, java, jars)
            self._wait_all_ready(state, deadline)
        except BaseException:
            mine = [state.brokers[index] for index in launched]
            for broker in mine:
                _signal(broker, signal.SIGTERM)
            until = time.monotonic() + ABORT_TIMEOUT_S
            for broker in mine:
                if not _wait_gone(broker, until):
                    _kill(broker)
            raise
        return state

    def _launch(
        self, state: ClusterState, index: int, java: Path, jars: Sequence[Path]
    ) -> ClusterState:
        plan = self._plans(state)[index]
        data.unseal(plan.data)
        aot, training = artifacts.aot_cache(JVM), _training(state)
        trains = index == 0 and not aot.exists()
        flags = [f"-XX:AOTCache={aot}"] if aot.exists() else []
        if trains:
            training.unlink(missing_ok=True)
            flags = [f"-XX:AOTCacheOutput={training}"]
        process = launch(plan, java, jars, flags)
        self._processes[process.pid] = process
        # Somebody has to take note of its end, or it stays behind as a zombie of ours.
        threading.Thread(target=process.wait, daemon=True, name=f"broker-{plan.node}").start()
        broker = state.brokers[index].model_copy(
            update={"pid": process.pid, "began": began(process.pid) or "", "trains": trains}
        )
        brokers = (*state.brokers[:index], broker, *state.brokers[index + 1 :])
        state = state.model_copy(update={"brokers": brokers})
        write_state(self._folder, state)
        return state

    def _wait_all_ready(self, state: ClusterState, deadline: float) -> None:
        for index in range(len(state.brokers)):
            self._wait_ready(state, index, deadline)

    def _wait_ready(self, state: ClusterState, index: int, deadline: float) -> None:
        from confluent_kafka import KafkaException
        from confluent_kafka.admin import AdminClient

        broker, plan = state.brokers[index], self._plans(state)[index]
        admin = AdminClient({"bootstrap.servers": f"127.0.0.1:{plan.port}", "log_level": 0})
        while is_alive(broker):
            with contextlib.suppress(KafkaException):
                if len(admin.list_topics(timeout=1.0).brokers) >= len(state.brokers):
                    return
            if time.monotonic() > deadline:
                raise KafkaError(
                    f"the broker on port {plan.port} did not answer in time; see {plan.log}"
                )
            time.sleep(CHECK_S)
        raise why_it_died(plan)

    # Ending

    def _end_all(self, state: ClusterState, living: Sequence[BrokerState], say: Say) -> None:
        is_trained = any(broker.trains for broker in living)
        if is_trained:
            say("stopping; this first time Java also writes its cache for faster starts")
        for broker in living:
            _signal(broker, signal.SIGTERM)
        deadline = time.monotonic() + (TRAINED_TIMEOUT_S if is_trained else STOP_TIMEOUT_S)
        for broker in living:
            if _wait_gone(broker, deadline):
                data.seal(self._folder / f"broker-{broker.node}" / "data")
                if broker.trains and _training(state).exists():
                    _training(state).replace(artifacts.aot_cache(JVM))
            else:
                _kill(broker)


def _training(state: ClusterState) -> Path:
    """Where Java writes its cache to when the first broker ends; used once it is whole."""
    aot = artifacts.aot_cache(JVM)
    return aot.with_name(f"{aot.name}.{state.cluster_id}")


def _signal(broker: BrokerState, number: signal.Signals) -> None:
    if is_alive(broker):
        with contextlib.suppress(ProcessLookupError):
            os.kill(broker.pid, number)


def _kill(broker: BrokerState) -> None:
    """With what it has started: the Java that writes the ahead-of-time cache."""
    if is_alive(broker):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(broker.pid, signal.SIGKILL)
    _wait_gone(broker, time.monotonic() + STOP_TIMEOUT_S)


def _wait_gone(broker: BrokerState, deadline: float) -> bool:
    while is_alive(broker):
        if time.monotonic() > deadline:
            return False
        time.sleep(CHECK_S)
    return True
