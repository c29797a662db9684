"""What the log has told so far of a shard, its runs and their steps.

Not the engine's state: it holds what the rules ask about, and takes every record that
counts as it comes, whether it was allowed or not; the rules have spoken before.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import IntEnum

from stepfold.core import events as e
from stepfold.core.ids import NO_EPOCH, Epoch
from stepfold.verify.succession import Succession

KEY_MEMORY_MS = 24 * 3_600_000
"""How long the id of an event, or the key of a start, must be recognised when it comes again."""
KEYS_MAX = 200_000
"""How many ids and keys a shard must recognise; older ones may be forgotten before their time."""


class StepState(IntEnum):
    OPEN = 1  # an attempt runs, as far as the log tells
    BACKOFF = 2  # the next attempt is due later, or now
    COMPLETED = 3
    FAILED = 4
    CANCELLED = 5


@dataclass(slots=True)
class StepStory:
    state: StepState
    attempt: int
    """The number of the latest attempt."""
    epoch: Epoch
    """Of its start."""
    offset: int
    """Of its start, or of what ended the step."""
    is_proven: bool
    """Whether the writer of the start could prove it, and so might let the attempt begin."""
    timeout_at: int = 0
    is_isolated: bool = False
    """Whether the latest attempt has, or had, a process of its own."""
    next_at: int = 0
    lost: int = 0
    """Lost attempts that are held against the step."""
    failed: int = 0

    @property
    def is_over(self) -> bool:
        return self.state >= StepState.COMPLETED


@dataclass(slots=True)
class WaitStory:
    kind: str
    name: str
    is_open: bool


@dataclass(slots=True)
class TimerStory:
    due: int
    is_set: bool


@dataclass(slots=True)
class ChildStory:
    """A step that starts a child run or sends an event."""

    is_awaited: bool
    """Whether the run waits for an answer."""
    is_answered: bool = False
    """Whether the child's own answer came."""


@dataclass(slots=True)
class RunStory:
    """Of an open run, or of one that commands have come for before its trigger."""

    offset: int
    """Of its acceptance; -1: it is not accepted, or was before the first record here."""
    is_whole: bool
    """Whether everything it told is known here."""
    is_parked: bool = False
    is_paused: bool = False
    steps: dict[str, StepStory] = field(default_factory=dict[str, StepStory])
    timers: dict[str, TimerStory] = field(default_factory=dict[str, TimerStory])
    waits: dict[str, WaitStory] = field(default_factory=dict[str, WaitStory])
    buffered: dict[str, str] = field(default_factory=dict[str, str])
    """Signals that nobody has taken yet: id and name."""
    delivered: set[str] = field(default_factory=set[str])
    children: dict[str, ChildStory] = field(default_factory=dict[str, ChildStory])
    base: int = -1
    """Where its latest full record lies: its acceptance, or a snapshot."""

    @property
    def open_attempts(self) -> list[str]:
        return [name for name, step in self.steps.items() if step.state is StepState.OPEN]

    @property
    def state(self) -> str:
        """In the words of the run list; `running` also where the next step is about to start."""
        states = {step.state for step in self.steps.values()}
        found = (
            ("parked", self.is_parked),
            ("paused", self.is_paused),
            ("running", StepState.OPEN in states),
            ("backoff", StepState.BACKOFF in states),
            ("waiting", any(wait.is_open for wait in self.waits.values())),
            ("waiting", any(child.is_awaited for child in self.children.values())),
            ("sleeping", any(timer.is_set for timer in self.timers.values())),
            ("queued", not (self.steps or self.waits or self.timers)),
        )
        return next((name for name, is_so in found if is_so), "running")


class Fate(IntEnum):
    """What became of a source record."""

    ACCEPTED = 0
    DEDUPLICATED = 1
    UNMATCHED = 2
    REJECTED = 3
    GAP = 4
    COMMAND = 5  # a control record became an event of its run


@dataclass(frozen=True, slots=True)
class Rejected:
    """A source record that the history says is in the DLQ; offset is that of the rejection."""

    source_offset: int
    offset: int
    topic: str
    partition: int
    dlq_offset: int
    sha256: str


@dataclass(slots=True)
class SourceStory:
    """One partition of inbox or control, as the history tells of it."""

    start: int
    mark: int
    """The last offset that has a fate."""
    fates: array[int] = field(default_factory=lambda: array("q"))
    """Four numbers for each: first and last source offset, fate, offset of the event."""
    is_in_order: bool = True
    copies: list[Rejected] = field(default_factory=list[Rejected])

    def note(self, first: int, last: int, fate: Fate, offset: int) -> None:
        self.is_in_order = self.is_in_order and first > self.mark
        self.mark = max(self.mark, last)
        self.fates.extend((first, last, fate, offset))

    def ranges(self) -> Iterator[tuple[int, int, Fate, int]]:
        """First and last source offset, fate, and the offset of what says so; in order."""
        fates = self.fates
        rows = zip(fates[0::4], fates[1::4], fates[2::4], fates[3::4], strict=True)
        for first, last, fate, offset in rows if self.is_in_order else sorted(rows):
            yield first, last, Fate(fate), offset


@dataclass(slots=True)
class Deliveries:
    """Between two shards, in order from number 1: three numbers for each.

    A check sum of the run, one of what is delivered to it, and the offset of the event.
    """

    last: int = 0
    rows: array[int] = field(default_factory=lambda: array("q"))

    def note(self, n: int, run: int, body: int, offset: int) -> None:
        self.last = n
        self.rows.extend((run, body, offset))

    def __len__(self) -> int:
        return len(self.rows) // 3

    def row(self, n: int) -> tuple[int, int, int]:
        """Of delivery n, from 1."""
        run, body, offset = self.rows[3 * n - 3 : 3 * n]
        return run, body, offset


@dataclass(slots=True)
class Parts:
    """The parts of a snapshot so far, and the offset of the first."""

    offset: int
    states: list[bytes] = field(default_factory=list[bytes])


@dataclass(slots=True)
class ShardStory:
    app: str
    partition: int
    history_topic_id: str
    is_whole: bool = True
    """Whether the history is known from its first record."""
    succession: Succession = field(default_factory=Succession)
    drained_at: int = -1
    """Offset of the latest statement of an owner that it is done with the shard."""
    claims: list[tuple[Epoch, str]] = field(default_factory=list[tuple[Epoch, str]])
    """Epochs in order, each with the worker that claimed it."""
    opened: e.ShardOpened | None = None
    runs: dict[str, RunStory] = field(default_factory=dict[str, RunStory])
    early: dict[str, RunStory] = field(default_factory=dict[str, RunStory])
    ended: dict[str, int] = field(default_factory=dict[str, int])
    """Runs that are over, and the offset of their end."""
    sources: dict[tuple[str, int], SourceStory] = field(
        default_factory=dict[tuple[str, int], SourceStory]
    )
    keys: dict[str, tuple[int, str]] = field(default_factory=dict[str, tuple[int, str]])
    """Ids of events and keys of starts: when they were seen first, and the run they started."""
    closed: dict[Epoch, int] = field(default_factory=dict[Epoch, int])
    """Former epochs, and the number of the last event of each that counts."""
    sent: dict[str, Deliveries] = field(default_factory=dict[str, Deliveries])
    """What events of this shard deliver, by target, such as `research.control/3`."""
    acked: dict[str, int] = field(default_factory=dict[str, int])
    taken: dict[str, Deliveries] = field(default_factory=dict[str, Deliveries])
    """What it took, by the shard that sent it, such as `research/0`."""
    parts: dict[str, Parts] = field(default_factory=dict[str, Parts])
    """Snapshots that are not whole yet, by run id; the shard's own under ""."""
    snapshot: int = -1
    """Where the latest whole snapshot of the shard begins."""
    lwm: int = -1
    """The mark of the latest checkpoint: a fold may begin there."""
    unproven: dict[Epoch, int] = field(default_factory=dict[Epoch, int])
    """Of each epoch: the first event that its writer could not prove."""
    void_starts: set[tuple[Epoch, str, str, int]] = field(
        default_factory=set[tuple[Epoch, str, str, int]]
    )
    """Epoch, run, step and number of attempts whose start does not count."""

    def claimant_of(self, epoch: Epoch) -> str | None:
        """The worker that led under this epoch; None: nobody did, as far as is known here."""
        claims = reversed(self.claims)
        return next((worker for claimed, worker in claims if claimed == epoch), None)

    def remember(self, key: str, timestamp: int, run_id: str) -> None:
        self.keys.pop(key, None)
        self.keys[key] = (timestamp, run_id)
        if len(self.keys) > KEYS_MAX:
            del self.keys[next(iter(self.keys))]

    def is_known(self, run_id: str) -> bool:
        return run_id in self.runs or run_id in self.ended


class Moment:
    """A record, while it is looked at, and what it is about as that was before.

    One object for all records: it is filled anew for each.
    """

    __slots__ = ("epoch", "offset", "run", "seq", "shard", "step", "timestamp")

    def __init__(self, shard: ShardStory) -> None:
        self.shard = shard
        self.offset = -1
        self.timestamp = 0
        self.epoch = NO_EPOCH
        self.seq = -1
        self.run: RunStory | None = None
        self.step: StepStory | None = None
