"""Runs attempts of steps: on the worker's loop, in threads, or alone in child processes.

An attempt is started only after its AttemptStarted is proven; that is the caller's
duty. Its result goes to whoever leads the shard when it ends, not to whoever started
it: an attempt outlives a short loss of the shard. And its result is kept until the event
that stands for it is proven, however long that takes: a call to a model that was paid
for is not made again because Kafka was away.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections import defaultdict
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, NamedTuple, TypeAlias

from stepfold.engine.execution import Died, Result, failed_by, outcome_of
from stepfold.engine.isolated_process import Replay
from stepfold.engine.isolation import Isolation
from stepfold.engine.places import Kind, Places
from stepfold.engine.threads import Threads
from stepfold.journal.port import ShardId
from stepfold.sdk.calls import StepCall

logger = logging.getLogger(__name__)

THREADS_MAX = 64
"""Steps that are plain functions and run at once, each in a thread; further ones wait."""


class AttemptKey(NamedTuple):
    run_id: str
    step: str
    attempt: int


class Ended(NamedTuple):
    key: AttemptKey
    result: Result | Died
    took_ms: int


EndSink: TypeAlias = Callable[[Ended], None]


class _Running(NamedTuple):
    task: asyncio.Task[Result | Died]
    shard: ShardId
    started_at: float


class Executor:
    """isolation: None where attempts cannot be given processes of their own."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        *,
        isolation: Isolation | None = None,
        places: Places | None = None,
    ) -> None:
        self.places = places or Places(loop)
        self._loop = loop
        self._isolation = isolation
        self.threads = Threads(loop, THREADS_MAX)
        self._running: dict[AttemptKey, _Running] = {}
        self._reserved: dict[AttemptKey, ShardId] = {}
        self._cancelled: set[AttemptKey] = set()
        self._not_isolated: set[str] = set()
        self._sinks: dict[ShardId, EndSink] = {}
        self._unsettled: defaultdict[ShardId, dict[AttemptKey, Ended]] = defaultdict(dict)
        self._unbegun: defaultdict[ShardId, set[AttemptKey]] = defaultdict(set)

    @property
    def running(self) -> int:
        return len(self._running)

    def running_of(self, shard: ShardId) -> list[AttemptKey]:
        return [key for key, running in self._running.items() if running.shard == shard]

    def kept_of(self, shard: ShardId) -> int:
        """Results of the shard that are not settled."""
        return len(self._unsettled[shard])

    def can_isolate(self, app: str) -> bool:
        return self._isolation is not None and self._isolation.knows(app)

    def note_not_isolated(self, app: str) -> None:
        """Say once for each app that a suspect shares the worker's process after all."""
        if app not in self._not_isolated:
            self._not_isolated.add(app)
            logger.warning(
                "a step that keeps losing its process is not isolated: no MODULE:APP is known",
                extra={"app": app},
            )

    def reserve(self, shard: ShardId, key: AttemptKey, kind: Kind) -> None:
        """Keep a place for an attempt whose start is on its way to the log."""
        self._reserved[key] = shard
        self._unbegun[shard].discard(key)
        self.places.take(key, kind)

    def release(self, key: AttemptKey) -> None:
        """The attempt will not start after all."""
        self._reserved.pop(key, None)
        self.places.free(key)

    def attach(self, shard: ShardId, sink: EndSink) -> None:
        """From now on results of this shard go to the sink; unsettled ones at once."""
        self._sinks[shard] = sink
        for ended in list(self._unsettled[shard].values()):
            sink(ended)

    def detach(self, shard: ShardId) -> None:
        """Keep results of this shard until it is led again, or given up."""
        self._sinks.pop(shard, None)
        for key in [key for key, owner in self._reserved.items() if owner == shard]:
            self._unbegun[shard].add(key)
            self.release(key)

    def settle(self, shard: ShardId, key: AttemptKey) -> None:
        """The history has what came of the attempt, or does not want it."""
        self._unsettled[shard].pop(key, None)

    def give_up(self, shard: ShardId) -> None:
        """Somebody else owns the shard: its attempts are cancelled, their results dropped."""
        self.detach(shard)
        self._unsettled.pop(shard, None)
        self._unbegun.pop(shard, None)
        for key, running in list(self._running.items()):
            if running.shard == shard:
                self._stop(key, running)

    def keep_only(self, shard: ShardId, is_wanted: Callable[[AttemptKey], bool]) -> None:
        """End what runs of this shard but is over, because others led the shard meanwhile."""
        for key in [key for key in self._unsettled[shard] if not is_wanted(key)]:
            del self._unsettled[shard][key]
        self._unbegun[shard] = {key for key in self._unbegun[shard] if is_wanted(key)}
        for key in self.running_of(shard):
            if not is_wanted(key):
                self._stop(key, self._running[key])

    def has(self, key: AttemptKey, shard: ShardId) -> bool:
        """Whether the attempt runs here, ended here, or was to begin here when the shard was lost.

        Then nobody else executes it, as long as nobody else has led the shard.
        """
        # One that was cancelled and does not heed it runs on, but nobody gets its result.
        is_running = key in self._running and key not in self._cancelled
        return is_running or key in self._unsettled[shard] or key in self._unbegun[shard]

    def take_unbegun(self, key: AttemptKey, shard: ShardId) -> bool:
        """Whether the attempt's start may be in the log although it never was executed."""
        if key not in self._unbegun[shard]:
            return False
        self._unbegun[shard].discard(key)
        return True

    def start(
        self, shard: ShardId, key: AttemptKey, call: StepCall, context: contextvars.Context
    ) -> None:
        self._start(shard, key, self._outcome(key, call), context)

    def start_isolated(self, shard: ShardId, key: AttemptKey, replay: Replay) -> None:
        """In a child process that runs this attempt and nothing else."""
        assert self._isolation is not None
        self._start(shard, key, self._isolation.execute(replay), contextvars.Context())

    def cancel(self, shard: ShardId, key: AttemptKey) -> None:
        """The workflow gave the attempt up; no result is reported."""
        self._unbegun[shard].discard(key)
        running = self._running.get(key)
        if running is not None:
            self._stop(key, running)

    async def wait_idle(self, shard: ShardId, timeout_s: float) -> None:
        """Until no attempt of the shard runs, or the time is over."""
        tasks = [r.task for r in self._running.values() if r.shard == shard]
        if tasks:
            await asyncio.wait(tasks, timeout=timeout_s)

    def close(self) -> None:
        for key, running in list(self._running.items()):
            self._stop(key, running)
        self.places.close()
        if self._isolation is not None:
            self._isolation.close()
        self.threads.close()

    def _start(
        self,
        shard: ShardId,
        key: AttemptKey,
        work: Coroutine[Any, Any, Result | Died],
        context: contextvars.Context,
    ) -> None:
        self._reserved.pop(key, None)
        name = f"{key.step} of run {key.run_id}"
        task = self._loop.create_task(work, name=name, context=context)
        self._running[key] = _Running(task, shard, self._loop.time())
        task.add_done_callback(partial(self._deliver, key))

    def _stop(self, key: AttemptKey, running: _Running) -> None:
        self._cancelled.add(key)
        running.task.cancel()

    async def _outcome(self, key: AttemptKey, call: StepCall) -> Result:
        return await outcome_of(call, self.threads)

    def _deliver(self, key: AttemptKey, task: asyncio.Task[Result | Died]) -> None:
        """Runs as a callback: the workflow's loop must not be entered from inside a task."""
        running = self._running.pop(key)
        took_ms = round((self._loop.time() - running.started_at) * 1_000)
        ended = Ended(key, _result_of(task), took_ms)
        if key in self._cancelled:
            self._cancelled.discard(key)
        else:
            self._unsettled[running.shard][key] = ended
            sink = self._sinks.get(running.shard)
            if sink is not None:
                sink(ended)
        self.places.free(key)


def _result_of(task: asyncio.Task[Result | Died]) -> Result | Died:
    """A GeneratorExit that was thrown in closes the coroutines below, and ends the task."""
    if task.cancelled():
        return failed_by(asyncio.CancelledError())
    error = task.exception()
    return task.result() if error is None else failed_by(error)
