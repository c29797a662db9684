"""Fixtures of the integration tests alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic  # pyright: ignore[reportPrivateImportUsage]

from stepfold.local import LocalKafka
from tests.kafka_fixture import START_TIMEOUT_S, free_port

KEPT_TOPIC = "kept"
KEPT_RECORDS = 200
WAIT_S = 30.0


@pytest.fixture(scope="session")
def stopped_kafka(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state folder whose Kafka ran, took a topic with records, and was stopped; to be copied."""
    folder = tmp_path_factory.mktemp("stopped") / ".stepfold"
    kafka = LocalKafka(folder, port=free_port())
    servers = kafka.start(START_TIMEOUT_S).bootstrap_servers
    admin: Any = AdminClient({"bootstrap.servers": servers})
    admin.create_topics([NewTopic(KEPT_TOPIC, 1, 1)])[KEPT_TOPIC].result(WAIT_S)
    producer = Producer({"bootstrap.servers": servers, "linger.ms": 0})
    for number in range(KEPT_RECORDS):
        producer.produce(KEPT_TOPIC, b"%d" % number * 100)
    assert producer.flush(WAIT_S) == 0
    kafka.stop()
    return folder
