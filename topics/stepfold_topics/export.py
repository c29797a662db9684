"""The catalog in the words of other tools, for clusters where stepfold may not create topics."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from typing import Literal, TypeAlias, assert_never

from stepfold_topics.catalog import TopicPlan

ExportFormat: TypeAlias = Literal["cli", "strimzi", "json"]


def export(
    plans: Sequence[TopicPlan], form: ExportFormat, *, strimzi_cluster: str = "kafka"
) -> str:
    """Text that ends with a line feed: a shell script, Kubernetes resources, or JSON."""
    match form:
        case "cli":
            return "\n".join(_command(plan) for plan in plans)
        case "strimzi":
            return "---\n".join(_resource(plan, strimzi_cluster) for plan in plans)
        case "json":
            return json.dumps([_facts(plan) for plan in plans], indent=2) + "\n"
        case _:
            assert_never(form)


def _command(plan: TopicPlan) -> str:
    words = [
        'kafka-topics.sh --bootstrap-server "$BOOTSTRAP_SERVERS" --create --if-not-exists',
        f"--topic {shlex.quote(plan.name)} --partitions {plan.partitions}"
        f" --replication-factor {plan.replication}",
        *(f"--config {name}={shlex.quote(value)}" for name, value in plan.config.items()),
    ]
    return f"# {plan.purpose}\n" + " \\\n    ".join(words) + "\n"


def _resource(plan: TopicPlan, cluster: str) -> str:
    lines = [
        "apiVersion: kafka.strimzi.io/v1",
        "kind: KafkaTopic",
        "metadata:",
        f"  name: {plan.name}",
        "  labels:",
        f"    strimzi.io/cluster: {cluster}",
        "spec:",
        f"  partitions: {plan.partitions}",
        f"  replicas: {plan.replication}",
        "  config:",
    ]
    for setting in plan.settings:
        lines.append(f"    # {setting.reason}")
        # JSON's strings are YAML's as well; bare, "false" and "-1" would change their type.
        lines.append(f"    {setting.name}: {json.dumps(setting.value)}")
    return "\n".join(lines) + "\n"


def _facts(plan: TopicPlan) -> dict[str, object]:
    return {
        "name": plan.name,
        "partitions": plan.partitions,
        "replication": plan.replication,
        "key": plan.key,
        "purpose": plan.purpose,
        "config": plan.config,
        "reasons": {setting.name: setting.reason for setting in plan.settings},
    }
