"""One broker process: its configuration, its command line, and what its log says."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from stepfold.core.errors import KafkaError

HEAP = ("-Xms128m", "-Xmx512m")
JVM = (*HEAP, "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")
FORMAT_TIMEOUT_S = 60.0
LOG_LINES_SHOWN = 8
LOG_BYTES_READ = 64 * 1024
CORRUPT_MARKS = (
    "No readable meta.properties",
    "InconsistentClusterIdException",
    "Invalid cluster.id",
    "CorruptRecordException",
    "KafkaStorageException",
    "does not match",
    "Unable to read",
)
FULL_MARK = "No space left on device"
LOGGING = """status = ERROR
appender.out.type = Console
appender.out.name = out
appender.out.layout.type = PatternLayout
appender.out.layout.pattern = [%d] %p %m (%c{1})%n%xEx
rootLogger.level = INFO
rootLogger.appenderRef.out.ref = out
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerPlan:
    """One broker of the cluster, and where it lives."""

    node: int
    port: int
    controller_port: int
    folder: Path
    voters: Sequence[tuple[int, int]]  # node and controller port of each

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def log(self) -> Path:
        return self.folder / "broker.log"

    @property
    def properties(self) -> Path:
        return self.folder / "server.properties"


def write_files(plan: BrokerPlan) -> None:
    plan.data.mkdir(parents=True, exist_ok=True)
    (plan.folder / "log4j2.properties").write_text(LOGGING)
    replicas = len(plan.voters)
    settings = {
        "process.roles": "broker,controller",
        "node.id": plan.node,
        "controller.quorum.voters": ",".join(f"{n}@127.0.0.1:{port}" for n, port in plan.voters),
        "listeners": f"PLAINTEXT://127.0.0.1:{plan.port},"
        f"CONTROLLER://127.0.0.1:{plan.controller_port}",
        "advertised.listeners": f"PLAINTEXT://127.0.0.1:{plan.port}",
        "controller.listener.names": "CONTROLLER",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "log.dirs": plan.data.resolve(),
        "auto.create.topics.enable": "false",
        "group.initial.rebalance.delay.ms": 0,
        "group.min.session.timeout.ms": 1_000,
        "default.replication.factor": replicas,
        "min.insync.replicas": min(2, replicas),
        "offsets.topic.replication.factor": replicas,
        "offsets.topic.num.partitions": replicas,
        "transaction.state.log.replication.factor": replicas,
        "transaction.state.log.min.isr": min(2, replicas),
        "transaction.state.log.num.partitions": 1,
        "share.coordinator.state.topic.replication.factor": replicas,
        "share.coordinator.state.topic.min.isr": min(2, replicas),
        "message.max.bytes": 2 * 1024 * 1024 + 1024,
        "replica.fetch.max.bytes": 4 * 1024 * 1024,
        "log.segment.bytes": 64 * 1024 * 1024,
        "log.retention.check.interval.ms": 60_000,
    }
    plan.properties.write_text("".join(f"{key}={value}\n" for key, value in settings.items()))


def format_storage(plan: BrokerPlan, java: Path, jars: Sequence[Path], cluster_id: str) -> None:
    """Once for a data folder. Raises KafkaError with what the tool said."""
    if (plan.data / "meta.properties").exists():
        return
    if any(plan.data.iterdir()):
        raise corrupt(plan, "it holds files, but no meta.properties")
    command = _command(java, jars, plan, "kafka.tools.StorageTool", ())
    done = subprocess.run(
        [*command, "format", f"--cluster-id={cluster_id}", "-c", str(plan.properties)],
        capture_output=True,
        text=True,
        timeout=FORMAT_TIMEOUT_S,
        check=False,
    )
    if done.returncode != 0:
        raise KafkaError(
            f"Kafka could not format {plan.data}: {(done.stderr or done.stdout)[-800:]}"
        )


def launch(
    plan: BrokerPlan, java: Path, jars: Sequence[Path], aot: Path
) -> subprocess.Popen[bytes]:
    """Start the broker in a session of its own: it outlives whoever started it."""
    flag = f"-XX:AOTCache={aot}" if aot.exists() else f"-XX:AOTCacheOutput={aot}"
    command = _command(java, jars, plan, "kafka.Kafka", (flag,))
    with plan.log.open("ab") as log:
        return subprocess.Popen(
            [*command, str(plan.properties)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def why_it_died(plan: BrokerPlan) -> KafkaError:
    """What the end of the broker's log says."""
    text = tail(plan.log)
    if FULL_MARK in text:
        return KafkaError(
            f"the disk is full: Kafka could not write to {plan.data}; free some space, "
            "then start again: nothing was deleted"
        )
    mark = next((mark for mark in CORRUPT_MARKS if mark in text), None)
    if mark is not None:
        return corrupt(plan, mark)
    lines = [line for line in text.splitlines() if " ERROR " in line or "Exception" in line]
    shown = "\n".join((lines or text.splitlines())[-LOG_LINES_SHOWN:])
    return KafkaError(f"the broker ended while starting; its log ({plan.log}) ends with:\n{shown}")


def corrupt(plan: BrokerPlan, what: str) -> KafkaError:
    return KafkaError(
        f"the data folder {plan.data} is damaged ({what}; log: {plan.log}); restore it, or give "
        "its contents up with `stepfold kafka reset`: nothing was deleted"
    )


def tail(path: Path) -> str:
    try:
        with path.open("rb") as file:
            file.seek(0, 2)
            file.seek(max(0, file.tell() - LOG_BYTES_READ))
            return file.read().decode(errors="replace")
    except OSError:
        return ""


def _command(
    java: Path, jars: Sequence[Path], plan: BrokerPlan, main: str, flags: Sequence[str]
) -> list[str]:
    return [
        str(java),
        *JVM,
        *flags,
        f"-Dlog4j2.configurationFile={(plan.folder / 'log4j2.properties').resolve()}",
        "-cp",
        ":".join(map(str, jars)),
        main,
    ]
