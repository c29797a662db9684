"""Real Apache Kafka on this machine, from Python packages alone.

Importing this is cheap: Java and the resolver are loaded when a broker is started.
"""

from __future__ import annotations

from stepfold.local.cluster import LocalKafka, LocalKafkaInfo, LocalKafkaStatus
from stepfold.local.state import running_bootstrap_servers

__all__ = ["LocalKafka", "LocalKafkaInfo", "LocalKafkaStatus", "running_bootstrap_servers"]
