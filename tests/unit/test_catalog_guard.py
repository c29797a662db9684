"""Which topics an app refuses to run on, and what would be changed about them."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

import pytest

from stepfold_topics.admin import DescribedTopic
from stepfold_topics.catalog import TopicPlan, topics_of
from stepfold_topics.guard import Described, UnsafeSettingError, check
from stepfold_topics.provision import Difference, differences_of


def as_planned(plan: TopicPlan) -> DescribedTopic:
    return DescribedTopic(
        name=plan.name,
        topic_id=f"id of {plan.name}",
        partitions=plan.partitions,
        replication=plan.replication,
        config=plan.config,
    )


def described(replication: int = 3) -> Described:
    inbox, control, history, dlq = map(as_planned, topics_of("research", replication=replication))
    return Described(inbox=inbox, control=control, history=history, dlq=dlq)


def with_setting(room: str, setting: str, value: str) -> Described:
    safe = described()
    topic = cast("DescribedTopic", getattr(safe, room))
    changed = replace(topic, config={**topic.config, setting: value})
    return replace(safe, **{room: changed})


def test_the_catalogs_own_topics_are_safe() -> None:
    check(described())


@pytest.mark.parametrize(
    ("room", "setting", "value"),
    [
        ("history", "cleanup.policy", "compact"),
        ("history", "cleanup.policy", "compact,delete"),
        ("history", "retention.ms", "604800000"),
        ("history", "retention.bytes", "1073741824"),
        ("history", "message.timestamp.type", "CreateTime"),
        ("history", "unclean.leader.election.enable", "true"),
        ("history", "max.message.bytes", "100000"),
        ("history", "min.insync.replicas", "1"),
        ("dlq", "max.message.bytes", "1048588"),
        ("dlq", "max.message.bytes", "1048576"),
        ("control", "cleanup.policy", "compact"),
        ("control", "message.timestamp.type", "CreateTime"),
        ("control", "unclean.leader.election.enable", "true"),
        ("control", "min.insync.replicas", "1"),
        ("inbox", "cleanup.policy", "compact"),
        ("inbox", "message.timestamp.type", "CreateTime"),
        ("inbox", "unclean.leader.election.enable", "true"),
        ("inbox", "min.insync.replicas", "1"),
        ("dlq", "cleanup.policy", "compact"),
        ("history", "retention.ms", ""),
    ],
)
def test_an_unsafe_setting_is_named_with_both_values(room: str, setting: str, value: str) -> None:
    with pytest.raises(UnsafeSettingError) as caught:
        check(with_setting(room, setting, value))

    error = caught.value
    assert (error.setting, error.value) == (setting, value)
    assert error.topic == cast("DescribedTopic", getattr(described(), room)).name
    assert f"{error.topic} has {setting}={value}, and must have {error.wanted}" in str(error)


def test_too_few_replicas_are_refused_in_earnest_and_allowed_in_development() -> None:
    alone = described(replication=1)

    with pytest.raises(UnsafeSettingError, match="replication=1, and must have at least 3"):
        check(alone)
    check(alone, unsafe_dev=True)


def test_development_relaxes_nothing_but_replicas() -> None:
    with pytest.raises(UnsafeSettingError, match="retention"):
        check(with_setting("history", "retention.ms", "1000"), unsafe_dev=True)


@pytest.mark.parametrize("room", ["inbox", "control", "history"])
def test_partition_counts_that_differ_are_refused(room: str) -> None:
    safe = described()
    topic = cast("DescribedTopic", getattr(safe, room))

    changed = replace(safe, **{room: replace(topic, partitions=9)})

    with pytest.raises(UnsafeSettingError, match="partitions=") as caught:
        check(changed, unsafe_dev=True)

    assert caught.value.setting == "partitions"


def test_the_dlq_may_have_partitions_of_its_own_number() -> None:
    safe = described()

    check(replace(safe, dlq=replace(safe.dlq, partitions=1)))


def test_topics_as_planned_have_no_differences() -> None:
    plans = topics_of("research")

    assert differences_of({plan.name: as_planned(plan) for plan in plans}, plans) == []


def test_differences_say_what_is_and_what_is_wanted() -> None:
    plans = topics_of("research")
    history = replace(
        as_planned(plans[2]),
        partitions=4,
        replication=1,
        config={**plans[2].config, "retention.ms": "1000"},
    )
    found = {plan.name: as_planned(plan) for plan in plans[1:]} | {plans[2].name: history}

    differences = differences_of(found, plans)

    assert [str(each) for each in differences] == [
        "research.inbox: missing",
        "research.history: partitions is 4, wanted 8",
        "research.history: replication is 1, wanted 3;"
        " add replicas with kafka-reassign-partitions.sh",
        "research.history: retention.ms is 1000, wanted -1",
    ]
    assert [each.once_applied for each in differences] == [
        "research.inbox: created",
        "not changed: research.history: partitions is 4, wanted 8",
        "not changed: research.history: replication is 1, wanted 3;"
        " add replicas with kafka-reassign-partitions.sh",
        "research.history: retention.ms was 1000, is now -1",
    ]
    assert [each.can_apply for each in differences] == [True, False, False, True]


@pytest.mark.parametrize(
    ("setting", "value", "is_different"),
    [
        ("retention.ms", "-1", False),
        ("retention.ms", "9999999999999", False),
        ("retention.ms", "1000", True),
        ("max.message.bytes", "5000000", False),
        ("max.message.bytes", "1000", True),
        ("min.insync.replicas", "3", False),
        ("cleanup.policy", "compact", True),
        ("unclean.leader.election.enable", "", True),
    ],
)
def test_what_keeps_more_than_the_plan_is_left(
    setting: str, value: str, is_different: bool
) -> None:
    plan = topics_of("research")[0]
    topic = replace(as_planned(plan), config={**plan.config, setting: value})

    differences = differences_of({plan.name: topic}, [plan])

    assert [(d.name, d.is_value) for d in differences] == [(setting, value)] * is_different


def test_a_missing_topic_is_one_difference() -> None:
    plan = topics_of("research")[0]

    assert differences_of({}, [plan]) == [
        Difference(topic=plan.name, kind="missing", name="", is_value="", wanted="")
    ]
