"""What is seen from outside, and nothing that the engine says of itself.

Executions of steps, what clients sent and what Kafka told them, what was committed to the
group, and what happened to processes: the evidence that the promises are judged by. And the
trace, for people; while nobody reads it, writing to it costs a comparison.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from tests.simulation.universe import Universe


class Ending(Enum):
    """How an execution of a step's code ended, as the code itself saw it."""

    RUNNING = "running"
    RETURNED = "returned"
    RAISED = "raised"
    CANCELLED = "cancelled"


@dataclass(slots=True)
class Execution:
    """One call of a step's code in one process."""

    run_id: str
    step: str
    attempt: int
    process: str
    began_us: int
    spec: dict[str, Any]
    ending: Ending = Ending.RUNNING
    ended_us: int = -1
    value: str = ""
    """What it returned, or the type of what it raised."""


class Sort(Enum):
    """What a record that a client wrote should become."""

    START = "start"
    EVENT = "event"
    UNWANTED = "unwanted"
    GARBAGE = "garbage"
    SIGNAL = "signal"
    CANCEL = "cancel"
    PAUSE = "pause"
    RESUME = "resume"
    NUDGE = "nudge"


@dataclass(slots=True, kw_only=True)
class Sent:
    """One record of a client; `offsets` says where it landed, more than once if it was repeated."""

    sort: Sort
    topic: str
    partition: int
    value: bytes
    workflows: tuple[str, ...] = ()
    plan: Any = None
    key: str = ""
    """The idempotency key or event id that makes it a repetition of another."""
    run_id: str = ""
    signal_id: str = ""
    signal_name: str = ""
    offsets: list[int] = field(default_factory=list[int])
    is_acknowledged: bool = False


class Stage:
    def __init__(self, universe: Universe, *, tracing: bool) -> None:
        self.universe = universe
        self.executions: list[Execution] = []
        self.sent: list[Sent] = []
        self.commits: list[tuple[int, int, int]] = []
        """Partition, committed inbox offset, when."""
        self.problems: list[str] = []
        """What was seen to be wrong at the moment it happened."""
        self.counts: Counter[str] = Counter()
        """How often each kind of fault happened, to see that none is asleep."""
        self.lines: list[str] | None = [] if tracing else None

    def note(self, actor: str, text: str, *values: object) -> None:
        if self.lines is not None:
            self.lines.append(f"{self.universe.now_s:12.6f}  {actor:<8} {text % values}")

    def fault(self, actor: str, kind: str, *values: object) -> None:
        self.counts[kind] += 1
        if self.lines is not None:
            told = " ".join(str(value) for value in values)
            self.lines.append(f"{self.universe.now_s:12.6f}  {actor:<8} !! {kind} {told}")

    def problem(self, text: str) -> None:
        self.problems.append(f"at {self.universe.now_s:.6f}: {text}")

    def digest(self) -> str:
        """Equal for two runs if, and only if, they were the same run."""
        assert self.lines is not None, "only a traced run has a digest"
        return hashlib.sha256("\n".join(self.lines).encode()).hexdigest()[:16]
