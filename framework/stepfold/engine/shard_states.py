"""What a shard is for this process, and why it may be nothing at all."""

from __future__ import annotations

from enum import Enum


class ShardState(Enum):
    """Section 3 of the protocol, as far as this process takes part in it."""

    FOLDING = "folding"
    CLAIMING = "claiming"
    LEADING = "leading"
    DRAINING = "draining"
    LIMBO = "limbo"
    FAULTED = "faulted"
    UNASSIGNED = "unassigned"


class ShardFaultError(Exception):
    """The history does not allow this process to lead the shard; a person has to look."""


class ShardUnreadableError(ShardFaultError):
    """A topic cannot be read on: it is gone, or not for us. It is tried again now and then."""

    def __init__(self, place: str, offset: int, why: str) -> None:
        super().__init__(
            f"{place} cannot be read at {offset}: {why}; restore the topic, or this worker's right"
            " to read it, and see `stepfold topics diff`"
        )
