"""What an app's topics are, and how the catalog reads for other tools."""

from __future__ import annotations

import json
import shlex

from stepfold_topics.catalog import topics_of
from stepfold_topics.export import export


def test_an_app_has_four_topics_of_one_partition_count() -> None:
    plans = topics_of("research", partitions=12)

    assert [plan.name for plan in plans] == [
        "research.inbox",
        "research.control",
        "research.history",
        "research.inbox.dlq",
    ]
    assert {plan.partitions for plan in plans} == {12}
    assert {plan.replication for plan in plans} == {3}


def test_history_is_never_deleted_nor_compacted() -> None:
    history = topics_of("research")[2].config

    assert history == {
        "cleanup.policy": "delete",
        "retention.ms": "-1",
        "retention.bytes": "-1",
        "message.timestamp.type": "LogAppendTime",
        "min.insync.replicas": "2",
        "unclean.leader.election.enable": "false",
        "max.message.bytes": "2097152",
    }


def test_a_single_broker_can_acknowledge_alone() -> None:
    plans = topics_of("research", replication=1)

    assert {(plan.replication, plan.config["min.insync.replicas"]) for plan in plans} == {(1, "1")}


def test_every_setting_has_its_reason_and_stands_once() -> None:
    for plan in topics_of("research"):
        assert all(setting.reason for setting in plan.settings)
        assert len(plan.config) == len(plan.settings)


def test_the_script_creates_each_topic_with_each_setting() -> None:
    plans = topics_of("research")

    commands = export(plans, "cli").replace("\\\n", "").splitlines()
    words = [shlex.split(line) for line in commands if line and not line.startswith("#")]

    assert [each[each.index("--topic") + 1] for each in words] == [plan.name for plan in plans]
    for plan, each in zip(plans, words, strict=True):
        assert each[each.index("--partitions") + 1] == "8"
        configs = [each[i + 1] for i, word in enumerate(each) if word == "--config"]
        assert configs == [f"{name}={value}" for name, value in plan.config.items()]


def test_strimzi_gets_one_resource_a_topic_with_settings_as_text() -> None:
    documents = export(topics_of("research"), "strimzi", strimzi_cluster="main").split("---\n")

    assert len(documents) == 4
    assert documents[2].startswith(
        "apiVersion: kafka.strimzi.io/v1\n"
        "kind: KafkaTopic\n"
        "metadata:\n"
        "  name: research.history\n"
        "  labels:\n"
        "    strimzi.io/cluster: main\n"
        "spec:\n"
        "  partitions: 8\n"
        "  replicas: 3\n"
        "  config:\n"
    )
    assert '    retention.ms: "-1"\n' in documents[2]


def test_json_holds_the_settings_and_their_reasons() -> None:
    plans = topics_of("research")

    facts = json.loads(export(plans, "json"))

    assert [each["config"] for each in facts] == [plan.config for plan in plans]
    assert all(each["reasons"].keys() == each["config"].keys() for each in facts)
