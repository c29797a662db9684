"""An app's topics on a real broker: made, compared, changed, and refused."""

from __future__ import annotations

import itertools
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from confluent_kafka.admin import AdminClient

from stepfold.local import LocalKafka
from stepfold_topics import admin as topic_admin
from stepfold_topics.catalog import TopicPlan, topics_of
from stepfold_topics.errors import MissingTopicsError, ProvisionError, TopicsUnreachableError
from stepfold_topics.guard import UnsafeSettingError, check, describe
from stepfold_topics.provision import RekeyError, apply, compare

pytestmark = pytest.mark.kafka

ANSWER_TIMEOUT_S = 60.0

_numbers = itertools.count(1)


@pytest.fixture
def admin(kafka_bootstrap: str) -> AdminClient:
    return AdminClient({"bootstrap.servers": kafka_bootstrap})


@pytest.fixture
def app() -> str:
    return f"topics-{os.getpid()}-{next(_numbers)}"


def plans_of(app: str, partitions: int = 2) -> tuple[TopicPlan, ...]:
    return topics_of(app, partitions=partitions, replication=1)


def test_what_is_made_is_what_was_planned(admin: AdminClient, app: str) -> None:
    plans = plans_of(app)

    missing = apply(admin, plans)

    assert [(each.topic, each.kind) for each in missing] == [(p.name, "missing") for p in plans]
    assert compare(admin, plans) == []
    assert apply(admin, plans) == []


def test_topics_have_ids_of_their_own_and_pass_the_guard(admin: AdminClient, app: str) -> None:
    apply(admin, plans_of(app))

    described = describe(admin, app)

    check(described, unsafe_dev=True)
    topics = (described.inbox, described.control, described.history, described.dlq)
    assert len({topic.topic_id for topic in topics}) == 4
    assert {(topic.partitions, topic.replication) for topic in topics} == {(2, 1)}
    with pytest.raises(UnsafeSettingError, match="replication=1"):
        check(described)


def test_three_brokers_need_no_leave_to_be_unsafe(kafka_three: LocalKafka, app: str) -> None:
    admin = AdminClient({"bootstrap.servers": kafka_three.status().bootstrap_servers})

    apply(admin, topics_of(app, partitions=1))

    check(describe(admin, app))


def test_a_setting_changed_by_hand_is_refused_and_then_mended(admin: AdminClient, app: str) -> None:
    plans = plans_of(app)
    apply(admin, plans)
    topic_admin.set_config(admin, f"{app}.history", {"retention.ms": "60000"})

    with pytest.raises(UnsafeSettingError, match=r"retention\.ms=60000, and must have -1"):
        check(describe(admin, app), unsafe_dev=True)
    differences = apply(admin, plans)

    assert [str(each) for each in differences] == [
        f"{app}.history: retention.ms is 60000, wanted -1"
    ]
    check(describe(admin, app), unsafe_dev=True)


def test_a_longer_retention_and_foreign_settings_are_left(admin: AdminClient, app: str) -> None:
    plans = plans_of(app)
    apply(admin, plans)
    theirs = {"retention.ms": "-1", "segment.bytes": "1048576"}
    topic_admin.set_config(admin, f"{app}.inbox", theirs)
    topic_admin.set_config(admin, f"{app}.inbox", {"message.timestamp.type": "CreateTime"})

    apply(admin, plans)

    config = describe(admin, app).inbox.config
    assert config["message.timestamp.type"] == "LogAppendTime"
    assert {name: config[name] for name in theirs} == theirs


@pytest.mark.parametrize("partitions", [1, 4])
def test_another_partition_count_is_refused_before_any_change(
    admin: AdminClient, app: str, partitions: int
) -> None:
    apply(admin, plans_of(app)[:2])

    with pytest.raises(RekeyError, match=f"has 2 partitions, wanted {partitions}") as caught:
        apply(admin, plans_of(app, partitions))

    assert (caught.value.partitions, caught.value.wanted) == (2, partitions)
    with pytest.raises(MissingTopicsError, match=f"stepfold topics apply {app}") as missing:
        describe(admin, app)
    assert missing.value.missing == (f"{app}.history", f"{app}.inbox.dlq")


def test_two_may_apply_at_once(kafka_bootstrap: str, app: str) -> None:
    plans = plans_of(app)
    clients = [AdminClient({"bootstrap.servers": kafka_bootstrap}) for _ in range(4)]

    with ThreadPoolExecutor(len(clients)) as threads:
        asked = [threads.submit(apply, client, plans) for client in clients]
        for each in asked:
            each.result(ANSWER_TIMEOUT_S)

    assert compare(clients[0], plans) == []


def test_too_many_replicas_are_refused_with_the_way_out(admin: AdminClient, app: str) -> None:
    plans = [replace(plan, replication=99) for plan in plans_of(app)]

    with pytest.raises(ProvisionError, match="ask for fewer replicas"):
        apply(admin, plans)


def test_kafka_that_does_not_answer_is_named_as_such(
    app: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(topic_admin, "REQUEST_TIMEOUT_S", 0.3)
    nobody = AdminClient({"bootstrap.servers": "127.0.0.1:1", "log_level": 0})

    with pytest.raises(TopicsUnreachableError, match="check that Kafka runs"):
        describe(nobody, app)
