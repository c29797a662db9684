"""Real Kafka for the tests: brokers of their own, in a folder of their own.

STEPFOLD_TEST_BOOTSTRAP names an existing cluster instead; with
STEPFOLD_TEST_TESTCONTAINERS=1, and a Docker engine that answers, the Docker image of
Apache Kafka is used.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from stepfold.local import LocalKafka

IMAGE = "apache/kafka:4.3.1"
START_TIMEOUT_S = 90.0


@contextmanager
def one_broker(folder: Path) -> Generator[str]:
    """The bootstrap servers of a cluster with one broker."""
    existing = os.environ.get("STEPFOLD_TEST_BOOTSTRAP")
    if existing:
        yield existing
    elif os.environ.get("STEPFOLD_TEST_TESTCONTAINERS") == "1":
        with _container() as servers:
            yield servers
    else:
        with local_cluster(folder, brokers=1) as kafka:
            yield kafka.status().bootstrap_servers


@contextmanager
def local_cluster(folder: Path, *, brokers: int) -> Generator[LocalKafka]:
    kafka = LocalKafka(folder, brokers=brokers, port=free_port())
    kafka.start(START_TIMEOUT_S)
    try:
        yield kafka
    finally:
        kafka.stop()


@contextmanager
def _container() -> Generator[str]:
    from testcontainers.core.container import DockerContainer
    from testcontainers.core.waiting_utils import wait_for_logs

    port = free_port()
    container = DockerContainer(IMAGE).with_bind_ports(9092, port)
    for name, value in {
        "KAFKA_NODE_ID": "1",
        "KAFKA_PROCESS_ROLES": "broker,controller",
        "KAFKA_LISTENERS": "EXT://:9092,INT://:19092,CONTROLLER://:29093",
        "KAFKA_ADVERTISED_LISTENERS": f"EXT://localhost:{port},INT://localhost:19092",
        "KAFKA_LISTENER_SECURITY_PROTOCOL_MAP": (
            "EXT:PLAINTEXT,INT:PLAINTEXT,CONTROLLER:PLAINTEXT"
        ),
        "KAFKA_INTER_BROKER_LISTENER_NAME": "INT",
        "KAFKA_CONTROLLER_LISTENER_NAMES": "CONTROLLER",
        "KAFKA_CONTROLLER_QUORUM_VOTERS": "1@localhost:29093",
        "KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR": "1",
        "KAFKA_GROUP_INITIAL_REBALANCE_DELAY_MS": "0",
        "KAFKA_GROUP_MIN_SESSION_TIMEOUT_MS": "1000",
        "KAFKA_AUTO_CREATE_TOPICS_ENABLE": "false",
    }.items():
        container = container.with_env(name, value)
    with container:
        wait_for_logs(container, "Kafka Server started", timeout=START_TIMEOUT_S)
        yield f"localhost:{port}"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
