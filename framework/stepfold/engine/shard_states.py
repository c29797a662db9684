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
