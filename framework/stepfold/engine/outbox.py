"""Sends what events of this shard have for other shards, in order per target (rule R18).

An intent is sent once its event is proven. When one fails, everything from the first
unacknowledged one on is sent again: a target takes each number once, and only the next
one. A new owner begins with all that the history does not show as acknowledged.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial

from stepfold.core import commands as c
from stepfold.core import events as e
from stepfold.core.shard import Shard
from stepfold.engine.guard import Guard
from stepfold.engine.history import ShardHistory
from stepfold.journal.codec import encode_command
from stepfold.journal.port import Appender, Headers, Report

IN_FLIGHT_MAX = 16
"""Deliveries to one target without a report; it bounds what is sent twice."""
RETRY_MS = 200
ACKS_RECORDED_AT = 64
"""Acknowledged deliveries to one target at which the history is told at once."""
ACKS_RECORDED_AFTER_MS = 1_000
"""And after which time it is told of fewer: they cost memory, and sending again."""


@dataclass(slots=True)
class _Target:
    released: int  # the last one whose event is proven
    acked: int  # all up to this one are with Kafka
    sent: int
    recorded: int
    generation: int = 0
    is_waiting: bool = False


class Outbox:
    """shard_name: `<app>/<partition>`, as the targets know this shard."""

    def __init__(
        self, *, shard_name: str, history: ShardHistory, appender: Appender, guard: Guard
    ) -> None:
        self._shard_name = shard_name
        self._history = history
        self._appender = appender
        self._guard = guard
        self._targets: dict[str, _Target] = {}

    def start(self) -> None:
        """Send again what was folded and is not acknowledged; it is proven, it is in the log."""
        for name, outgoing in self._shard.outbox.items():
            acked = min(outgoing.unacked, default=outgoing.last + 1) - 1
            target = _Target(outgoing.last, acked, acked, acked)
            self._targets[name] = target
            self._send(name, target)

    def release(self, outs: Iterable[e.Out]) -> None:
        """Their event is proven."""
        for out in outs:
            before = out.n - 1
            target = self._targets.setdefault(out.target, _Target(before, before, before, before))
            target.released = out.n
            self._send(out.target, target)

    @property
    def _shard(self) -> Shard:
        return self._history.shard

    def _send(self, name: str, target: _Target) -> None:
        while (
            self._history.is_certain
            and not target.is_waiting
            and target.sent < target.released
            and target.sent - target.acked < IN_FLIGHT_MAX
        ):
            target.sent += 1
            self._append(name, target, self._shard.outbox[name].unacked[target.sent])

    def _append(self, name: str, target: _Target, out: e.Out) -> None:
        topic, _, partition = name.rpartition("/")
        command = self._wrapped(out)
        run_id = getattr(out.body, "run_id", "")
        headers: Headers = [("sf-kind", type(out.body).__name__.encode())]
        if run_id:
            headers.append(("sf-run", run_id.encode()))
        report = partial(self._reported, name, target, target.generation, out.n)
        self._appender.append(
            topic,
            int(partition),
            (run_id or getattr(out.body, "id", "")).encode(),
            encode_command(command),
            headers,
            self._guard(report),
        )

    def _wrapped(self, out: e.Out) -> c.Command:
        """An event goes to an inbox as it is: there its id keeps it from counting twice."""
        if isinstance(out.body, c.Trigger):
            return out.body
        return c.Deliver(
            from_shard=self._shard_name, n=out.n, run_id=out.body.run_id, body=out.body
        )

    def _reported(
        self, name: str, target: _Target, generation: int, n: int, report: Report
    ) -> None:
        if not self._history.is_certain or generation != target.generation:
            return
        if report.error is not None:
            target.generation += 1
            target.sent = target.acked
            target.is_waiting = True
            clock = self._history.clock
            clock.call_at(clock.now_ms() + RETRY_MS, self._guard(partial(self._again, name)))
            return
        target.acked = n
        if n - target.recorded >= ACKS_RECORDED_AT:
            self._record(name)
        elif n == target.recorded + 1:
            clock = self._history.clock
            due = clock.now_ms() + ACKS_RECORDED_AFTER_MS
            clock.call_at(due, self._guard(partial(self._record, name)))
        self._send(name, target)

    def _again(self, name: str) -> None:
        target = self._targets[name]
        target.is_waiting = False
        self._send(name, target)

    def _record(self, name: str) -> None:
        target = self._targets[name]
        if self._history.is_certain and target.acked > target.recorded:
            target.recorded = target.acked
            self._history.append(e.OutboxAcked(target=name, upto=target.acked))
