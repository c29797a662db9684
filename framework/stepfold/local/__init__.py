"""Real Apache Kafka on this machine, from Python packages alone.

What is named here is loaded when it is first used: most commands never start a broker.
Java and the resolver are loaded when one is started.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stepfold.local.cluster import LocalKafka, LocalKafkaInfo, LocalKafkaStatus
    from stepfold.local.state import running_bootstrap_servers

__all__ = [
    "DEFAULT_STATE_DIR",
    "LocalKafka",
    "LocalKafkaInfo",
    "LocalKafkaStatus",
    "running_bootstrap_servers",
]

DEFAULT_STATE_DIR = Path(".stepfold")

_HOMES = {
    "LocalKafka": "stepfold.local.cluster",
    "LocalKafkaInfo": "stepfold.local.cluster",
    "LocalKafkaStatus": "stepfold.local.cluster",
    "running_bootstrap_servers": "stepfold.local.state",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
