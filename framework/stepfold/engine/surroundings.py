"""What the leaders of a process share."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from stepfold.core.decide import MAX_LOST
from stepfold.engine.checkpoints import EVENTS_BETWEEN
from stepfold.engine.clock import Clock
from stepfold.engine.directory import Directory
from stepfold.engine.executor import Executor
from stepfold.journal.port import ShardId

DEGRADED_AFTER_S = 5.0
"""Without a proof for so long, a shard starts nothing new (rule R12)."""
RENEW_AFTER_S = 60.0
"""Without a proof for so long, while other shards get theirs, it is the client that is broken."""
LIMBO_MAX_S = 900.0
"""How long attempts of a lost shard go on when nobody is seen to have taken it (rule R14). A
quarter of an hour: the calls of a worker outlive ten minutes without Kafka, and a worker that
is cut off, whose shards others lead by then, does not work for nothing for ever."""
MAX_LOST_MIN = 2
MAX_LOST_MAX = 25


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """max_lost: see decide.MAX_LOST. The others are explained where their defaults are.

    Raises ValueError for a value out of bounds.
    """

    degraded_after_s: float = DEGRADED_AFTER_S
    renew_after_s: float = RENEW_AFTER_S
    limbo_max_s: float = LIMBO_MAX_S
    max_lost: int = MAX_LOST

    def __post_init__(self) -> None:
        if not MAX_LOST_MIN <= self.max_lost <= MAX_LOST_MAX:
            raise ValueError(
                f"max_lost must be {MAX_LOST_MIN} to {MAX_LOST_MAX}, got {self.max_lost}"
            )


class Progress:
    """When each shard of this process had its last proof."""

    def __init__(self) -> None:
        self._proven_at: dict[ShardId, float] = {}

    def note(self, shard: ShardId, now_s: float) -> None:
        self._proven_at[shard] = now_s

    def is_elsewhere(self, shard: ShardId, since_s: float) -> bool:
        """Whether another shard has had a proof since then."""
        return any(at > since_s for other, at in self._proven_at.items() if other != shard)


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
    limits: Limits = Limits()
    progress: Progress = field(default_factory=Progress)
