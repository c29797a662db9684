"""Creates an app's topics, and compares those that are there with the catalog.

Nothing is ever made smaller: where a topic keeps more, or longer, than the catalog asks
for, that stays. A partition count is never changed, because it would move keys to other
shards; a difference is refused before anything is touched.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from confluent_kafka.admin import AdminClient

from stepfold_topics.admin import DescribedTopic, create_topics, describe_topics, set_config
from stepfold_topics.catalog import TopicPlan
from stepfold_topics.errors import ProvisionError, RekeyError

__all__ = ["Difference", "ProvisionError", "RekeyError", "apply", "compare", "differences_of"]

VISIBLE_TIMEOUT_S = 15.0
"""For a topic that was just created to be known to every broker."""
VISIBLE_POLL_S = 0.05

FLOORS = {"retention.ms", "retention.bytes", "max.message.bytes", "min.insync.replicas"}
"""Settings where more than the plan asks for is as good; -1 is without limit."""

DifferenceKind: TypeAlias = Literal["missing", "partitions", "setting", "replication"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    topic: str
    kind: DifferenceKind
    name: str
    is_value: str
    wanted: str

    @property
    def can_apply(self) -> bool:
        """Whether `apply` mends it: replicas are moved by Kafka's own tools."""
        return self.kind in ("missing", "setting")

    def __str__(self) -> str:
        if self.kind == "missing":
            return f"{self.topic}: missing"
        text = f"{self.topic}: {self.name} is {self.is_value}, wanted {self.wanted}"
        if self.kind == "replication":
            text += "; add replicas with kafka-reassign-partitions.sh"
        return text

    @property
    def once_applied(self) -> str:
        """What `apply` has made of it, in words."""
        match self.kind:
            case "missing":
                return f"{self.topic}: created"
            case "setting":
                return f"{self.topic}: {self.name} was {self.is_value}, is now {self.wanted}"
            case "partitions" | "replication":
                return f"not changed: {self}"


def compare(admin: AdminClient, plans: Sequence[TopicPlan]) -> list[Difference]:
    """What `apply` would change or refuse; blocks, so call it in a thread."""
    return differences_of(describe_topics(admin, [plan.name for plan in plans]), plans)


def apply(admin: AdminClient, plans: Sequence[TopicPlan]) -> list[Difference]:
    """Create and alter; returns what was different. Blocks, so call it in a thread.

    Raises RekeyError before any change. Several may apply at once: whoever comes second
    compares with what the first has made.
    """
    found = describe_topics(admin, [plan.name for plan in plans])
    _refuse_rekeying(found, plans)
    differences = differences_of(found, plans)
    missing = [plan for plan in plans if plan.name not in found]
    if missing:
        create_topics(admin, missing)
        found = _visible(admin, plans)
        _refuse_rekeying(found, plans)
    altered: dict[str, dict[str, str]] = {}
    for difference in differences_of(found, plans):
        if difference.kind == "setting":
            altered.setdefault(difference.topic, {})[difference.name] = difference.wanted
    for topic, config in altered.items():
        set_config(admin, topic, config)
    return differences


def differences_of(
    found: Mapping[str, DescribedTopic], plans: Sequence[TopicPlan]
) -> list[Difference]:
    """In the order of the plans, and of their settings."""
    differences: list[Difference] = []
    for plan in plans:
        topic = found.get(plan.name)
        if topic is None:
            differences.append(_difference(plan, "missing", "", "", ""))
        else:
            differences += _topic_differences(topic, plan)
    return differences


def _topic_differences(topic: DescribedTopic, plan: TopicPlan) -> list[Difference]:
    found: list[Difference] = []
    if topic.partitions != plan.partitions:
        count = str(topic.partitions)
        found.append(_difference(plan, "partitions", "partitions", count, str(plan.partitions)))
    if topic.replication < plan.replication:
        count = str(topic.replication)
        found.append(_difference(plan, "replication", "replication", count, str(plan.replication)))
    for name, wanted in plan.config.items():
        value = topic.config.get(name, "")
        if not _is_enough(name, value, wanted):
            found.append(_difference(plan, "setting", name, value, wanted))
    return found


def _is_enough(name: str, value: str, wanted: str) -> bool:
    if value == wanted or name not in FLOORS or not value:
        return value == wanted
    return value == "-1" or (wanted != "-1" and int(value) >= int(wanted))


def _refuse_rekeying(found: Mapping[str, DescribedTopic], plans: Sequence[TopicPlan]) -> None:
    for plan in plans:
        topic = found.get(plan.name)
        if topic is not None and topic.partitions != plan.partitions:
            raise RekeyError(plan.name, topic.partitions, plan.partitions)


def _visible(admin: AdminClient, plans: Sequence[TopicPlan]) -> dict[str, DescribedTopic]:
    names = [plan.name for plan in plans]
    deadline = time.monotonic() + VISIBLE_TIMEOUT_S
    while True:
        found = describe_topics(admin, names)
        missing = [name for name in names if name not in found]
        if not missing:
            return found
        if time.monotonic() > deadline:
            raise ProvisionError(
                f"created, but not to be seen after {VISIBLE_TIMEOUT_S:.0f} s: "
                f"{', '.join(missing)}; look at the controller's log"
            )
        time.sleep(VISIBLE_POLL_S)


def _difference(
    plan: TopicPlan, kind: DifferenceKind, name: str, is_value: str, wanted: str
) -> Difference:
    return Difference(topic=plan.name, kind=kind, name=name, is_value=is_value, wanted=wanted)
