"""What the leaders of a process share."""

from __future__ import annotations

from dataclasses import dataclass

from stepfold.engine.checkpoints import EVENTS_BETWEEN
from stepfold.engine.clock import Clock
from stepfold.engine.directory import Directory
from stepfold.engine.executor import Executor


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What a leader works with; the same for all shards of a process."""

    clock: Clock
    executor: Executor
    directory: Directory
    worker_id: str
    events_between_checkpoints: int = EVENTS_BETWEEN
