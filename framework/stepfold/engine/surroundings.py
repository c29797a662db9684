"""What the leaders of a process share."""

from __future__ import annotations

import random
from dataclasses import dataclass

from stepfold.engine.checkpoints import EVENTS_BETWEEN
from stepfold.engine.clock import Clock
from stepfold.engine.directory import Directory
from stepfold.engine.executor import Executor


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What a leader works with; the same for all shards of a process.

    dice: for the nonce of a claim and the jitter of a back-off. Two processes must not draw
    alike, so it is the operating system's, except where a run has to be repeatable.
    """

    clock: Clock
    executor: Executor
    directory: Directory
    worker_id: str
    dice: random.Random
    events_between_checkpoints: int = EVENTS_BETWEEN
