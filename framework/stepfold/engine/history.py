"""A shard's history as its leader works on it: the folded state, and the pen that writes on."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial

from stepfold.core import events as e
from stepfold.core.run import Run
from stepfold.core.shard import Shard, evolve
from stepfold.engine.clock import Clock
from stepfold.journal.writer import HistoryWriter, WhenProven


class ShardHistory:
    """State evolves when an event is appended, so the next decision sees it at once.

    Effects wait for the proof: `when_proven` runs then, or never. deliver: takes what an
    event has for other shards, once it is proven.
    """

    def __init__(
        self,
        *,
        shard: Shard,
        writer: HistoryWriter,
        clock: Clock,
        deliver: Callable[[Iterable[e.Out]], None],
    ) -> None:
        self.shard = shard
        self.writer = writer
        self.clock = clock
        self._deliver = deliver
        self._last_at = 0

    @property
    def is_certain(self) -> bool:
        """Whether all that was appended may still turn out to count."""
        return self.writer.is_certain

    def append(
        self, event: e.Event, *, tenant: str = "", when_proven: WhenProven | None = None
    ) -> None:
        """Raises PayloadTooLargeError, and then nothing has changed."""
        now = max(self.clock.now_ms(), self._last_at)
        self._last_at = now
        out: tuple[e.Out, ...] = getattr(event, "out", ())
        if out:
            when_proven = partial(self._deliver, out)  # no event has both kinds of effect
        self.writer.append(event, at=now, tenant=tenant, when_proven=when_proven)
        chain = self.shard.chain
        chain.last_offset = self.writer.last_offset
        chain.next_seq = self.writer.next_seq
        evolve(self.shard, event, now, self.writer.epoch)

    def append_all(self, events: Iterable[e.Event], run: Run) -> bool:
        """Append events of one run; whether there were any."""
        some = False
        for event in events:
            self.append(event, tenant=run.tenant)
            some = True
        return some
