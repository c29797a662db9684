"""Fixtures of the whole suite: brokers that start once, and topics of each test's own."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator

import pytest
from confluent_kafka.admin import AdminClient

from stepfold.local import LocalKafka
from stepfold_topics.catalog import topics_of
from stepfold_topics.provision import apply
from tests.kafka_fixture import local_cluster, one_broker

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def kafka_bootstrap(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """One real broker for the session."""
    with one_broker(tmp_path_factory.mktemp("kafka")) as servers:
        yield servers


@pytest.fixture(scope="session")
def kafka_three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalKafka]:
    """Three real brokers for the session; replication 3, two in sync at least."""
    with local_cluster(tmp_path_factory.mktemp("kafka-three"), brokers=3) as kafka:
        yield kafka


@pytest.fixture
def new_app(kafka_bootstrap: str) -> Callable[[int], str]:
    """Makes the topics of a new app, with so many partitions, and tells its name."""

    def make(partitions: int = 4) -> str:
        return make_app(kafka_bootstrap, partitions=partitions, replication=1)

    return make


def make_app(servers: str, *, partitions: int, replication: int) -> str:
    name = f"test-{os.getpid()}-{next(_numbers)}"
    admin = AdminClient({"bootstrap.servers": servers})
    apply(admin, topics_of(name, partitions=partitions, replication=replication))
    return name
