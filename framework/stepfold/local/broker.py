"""One broker process: its configuration, its command line, and what its log says."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from stepfold.core.errors import KafkaError
from stepfold.local.data import Damage

HEAP = ("-Xms128m", "-Xmx512m")
JVM = (
    *HEAP,
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    # The log is for what Kafka says: these only tell users of Java's about Java.
    "-Xlog:disable",
    "-Xlog:all=error:stderr",
    "--sun-misc-unsafe-memory-access=allow",
    "--enable-native-access=ALL-UNNAMED",
)
JAVA_VARIABLES = frozenset({"JAVA_TOOL_OPTIONS", "JDK_JAVA_OPTIONS", "_JAVA_OPTIONS", "CLASSPATH"})
FORMAT_TIMEOUT_S = 60.0
LOG_LINES_SHOWN = 8
LOG_BYTES_READ = 64 * 1024
FULL_MARK = "No space left on device"
PORT_MARK = "Address already in use"
LOGGING = """status = ERROR
appender.out.type = Console
appender.out.name = out
appender.out.layout.type = PatternLayout
appender.out.layout.pattern = [%d] %p %m (%c{1})%n%xEx
rootLogger.level = WARN
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
    plan.folder.mkdir(parents=True, exist_ok=True)
    (plan.folder / "log4j2.properties").write_text(LOGGING)
    plan.properties.write_text(_properties(plan, plan.data))


def _properties(plan: BrokerPlan, data: Path) -> str:
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
        "log.dirs": data.resolve(),
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
        # A broker that was killed is let in again once its session is over: 9 s by default.
        "broker.session.timeout.ms": 4_000,
        "broker.heartbeat.interval.ms": 500,
        # Twice a second by default, for months: the metadata log of a development broker.
        "metadata.max.idle.interval.ms": 30_000,
    }
    return "".join(f"{key}={value}\n" for key, value in settings.items())


def format_storage(plan: BrokerPlan, java: Path, jars: Sequence[Path], cluster_id: str) -> None:
    """Make the data folder: whole or not at all. Raises KafkaError with what the tool said."""
    new = plan.folder / "data.new"
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir()
    properties = plan.folder / "format.properties"
    properties.write_text(_properties(plan, new))
    command = _command(java, jars, plan, "kafka.tools.StorageTool", ())
    done = subprocess.run(
        [*command, "format", f"--cluster-id={cluster_id}", "-c", str(properties)],
        capture_output=True,
        text=True,
        timeout=FORMAT_TIMEOUT_S,
        check=False,
        env=_environment(),
    )
    if done.returncode != 0:
        raise KafkaError(
            f"Kafka could not format {plan.data}: {(done.stderr or done.stdout)[-800:]}"
        )
    new.rename(plan.data)


def launch(
    plan: BrokerPlan, java: Path, jars: Sequence[Path], aot: Sequence[str]
) -> subprocess.Popen[bytes]:
    """Start the broker in a session of its own: it outlives whoever started it."""
    command = _command(java, jars, plan, "kafka.Kafka", aot)
    with plan.log.open("wb") as log:
        return subprocess.Popen(
            [*command, str(plan.properties)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            env=_environment(),
        )


def why_it_died(plan: BrokerPlan) -> KafkaError:
    """What the end of the broker's log says."""
    text = tail(plan.log)
    if FULL_MARK in text:
        return KafkaError(
            f"the disk is full: Kafka could not write to {plan.data}; free some space, "
            "then start again: nothing was deleted"
        )
    if PORT_MARK in text:
        return KafkaError(
            f"port {plan.port} or {plan.controller_port} was taken by another program while Kafka "
            "started; start again: it then uses the next free ones"
        )
    lines = [line for line in text.splitlines() if " ERROR " in line or "Exception" in line]
    shown = "\n".join((lines or text.splitlines())[-LOG_LINES_SHOWN:])
    return KafkaError(
        f"the broker ended while starting, on the data in {plan.data}; its log ({plan.log}) ends "
        f"with:\n{shown}"
    )


def what_was_cut(plan: BrokerPlan) -> list[str]:
    """What Kafka says that it has cut off or given up since it was started."""
    marks = ("Corruption found in segment", "marked stray")
    return [line for line in tail(plan.log).splitlines() if any(mark in line for mark in marks)]


def corrupt(plan: BrokerPlan, damage: Damage) -> KafkaError:
    cut = (
        ", or let Kafka cut off what is not whole with `stepfold kafka start --cut-damage`"
        if damage.can_cut
        else ""
    )
    return KafkaError(
        f"the data folder {plan.data} is damaged ({damage.what}); restore it{cut}, or give its "
        "contents up with `stepfold kafka reset`: nothing was deleted, Kafka was not started"
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


def _environment() -> dict[str, str]:
    """Without the variables that add flags of the user's to every Java."""
    return {name: value for name, value in os.environ.items() if name not in JAVA_VARIABLES}
