"""Runs attempts of steps: coroutines on the worker's loop, plain functions in threads.

An attempt is started only after its AttemptStarted is proven; that is the caller's
duty. Its result goes to whoever leads the shard when it ends, not to whoever started
it: an attempt outlives a short loss of the shard, and its result is kept until the
shard is led again or is given up.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, TypeAlias

from stepfold.core.durations import DURATION_MAX_MS
from stepfold.core.errors import Fatal, PayloadError, PayloadTooLargeError, RetryAfter
from stepfold.engine.threads import Threads
from stepfold.journal.port import ShardId
from stepfold.sdk.calls import StepCall
from stepfold.sdk.failures import failure_of

ATTEMPTS_RUNNING_MAX = 2_000
"""Attempts that run at once in one process; further ones wait for a place."""
THREADS_MAX = 64
"""Steps that are plain functions and run at once, each in a thread; further ones wait."""
PAYLOAD_BYTES_MAX = 900_000
"""The largest input or result that fits into one event (rule R20)."""


class AttemptKey(NamedTuple):
    run_id: str
    step: str
    attempt: int


@dataclass(frozen=True, slots=True)
class Succeeded:
    payload: bytes


@dataclass(frozen=True, slots=True)
class Failed:
    error_type: str
    message: str
    stack: str
    retryable: bool
    delay_ms: int | None = None


@dataclass(frozen=True, slots=True)
class TimedOut:
    timeout_ms: int


Result: TypeAlias = Succeeded | Failed | TimedOut


class Ended(NamedTuple):
    key: AttemptKey
    result: Result
    took_ms: int


EndSink: TypeAlias = Callable[[Ended], None]


Waiter: TypeAlias = Callable[[], None]


class _Running(NamedTuple):
    task: asyncio.Task[Result]
    shard: ShardId
    started_at: float


class Executor:
    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.threads = Threads(loop, THREADS_MAX)
        self._running: dict[AttemptKey, _Running] = {}
        self._reserved: dict[AttemptKey, ShardId] = {}
        self._waiters: deque[Waiter] = deque()
        self._cancelled: set[AttemptKey] = set()
        self._sinks: dict[ShardId, EndSink] = {}
        self._kept: dict[ShardId, list[Ended]] = {}

    @property
    def running(self) -> int:
        return len(self._running)

    @property
    def is_full(self) -> bool:
        return len(self._running) + len(self._reserved) >= ATTEMPTS_RUNNING_MAX

    def when_room(self, waiter: Waiter) -> None:
        """Call back once, when an attempt may be started again; first come, first served."""
        self._waiters.append(waiter)

    def reserve(self, shard: ShardId, key: AttemptKey) -> None:
        """Keep a place for an attempt whose start is on its way to the log."""
        self._reserved[key] = shard

    def release(self, key: AttemptKey) -> None:
        """The attempt will not start after all."""
        self._reserved.pop(key, None)
        self._let_in()

    def attach(self, shard: ShardId, sink: EndSink) -> None:
        """From now on results of this shard go to the sink; kept ones at once."""
        self._sinks[shard] = sink
        for ended in self._kept.pop(shard, ()):
            sink(ended)

    def detach(self, shard: ShardId) -> None:
        """Keep results of this shard until it is led again, or given up."""
        self._sinks.pop(shard, None)
        for key in [key for key, owner in self._reserved.items() if owner == shard]:
            del self._reserved[key]
        self._let_in()

    def give_up(self, shard: ShardId) -> None:
        """Somebody else owns the shard: its attempts are cancelled, their results dropped."""
        self.detach(shard)
        self._kept.pop(shard, None)
        for key, running in list(self._running.items()):
            if running.shard == shard:
                self._cancelled.add(key)
                running.task.cancel()

    def runs(self, key: AttemptKey, shard: ShardId) -> bool:
        """Whether the attempt runs here, or ended here with its result still kept."""
        # One that was cancelled and does not heed it runs on, but nobody gets its result.
        is_running = key in self._running and key not in self._cancelled
        return is_running or any(ended.key == key for ended in self._kept.get(shard, ()))

    def running_of(self, shard: ShardId) -> list[AttemptKey]:
        return [key for key, running in self._running.items() if running.shard == shard]

    def keep(self, shard: ShardId, ended: Ended) -> None:
        """Until the shard is led again: whoever leads it now cannot record it any more."""
        self._kept.setdefault(shard, []).append(ended)

    def start(
        self, shard: ShardId, key: AttemptKey, call: StepCall, context: contextvars.Context
    ) -> None:
        self._reserved.pop(key, None)
        name = f"{key.step} of run {key.run_id}"
        task = self._loop.create_task(self._outcome(key, call), name=name, context=context)
        self._running[key] = _Running(task, shard, self._loop.time())
        task.add_done_callback(partial(self._deliver, key))

    def cancel(self, key: AttemptKey) -> None:
        """The workflow gave the attempt up; no result is reported."""
        running = self._running.get(key)
        if running is not None:
            self._cancelled.add(key)
            running.task.cancel()

    async def wait_idle(self, shard: ShardId, timeout_s: float) -> None:
        """Until no attempt of the shard runs, or the time is over."""
        tasks = [r.task for r in self._running.values() if r.shard == shard]
        if tasks:
            await asyncio.wait(tasks, timeout=timeout_s)

    def close(self) -> None:
        for key, running in list(self._running.items()):
            self._cancelled.add(key)
            running.task.cancel()
        self.threads.close()

    def _deliver(self, key: AttemptKey, task: asyncio.Task[Result]) -> None:
        """Runs as a callback: the workflow's loop must not be entered from inside a task."""
        running = self._running.pop(key)
        took_ms = round((self._loop.time() - running.started_at) * 1_000)
        ended = Ended(key, _result_of(task), took_ms)
        if key in self._cancelled:
            self._cancelled.discard(key)
        elif (sink := self._sinks.get(running.shard)) is None:
            self.keep(running.shard, ended)
        else:
            sink(ended)
        self._let_in()

    def _let_in(self) -> None:
        while self._waiters and not self.is_full:
            self._waiters.popleft()()

    async def _outcome(self, key: AttemptKey, call: StepCall) -> Result:
        """User code may raise anything, SystemExit and CancelledError included."""
        try:
            if _is_async(call.function):
                value = await self._timed(call)
            else:
                async with self.threads.room:  # waiting for a thread is not the step's time
                    value = await self._timed(call)
            payload = call.encode_result(value)
            if len(payload) > PAYLOAD_BYTES_MAX:
                raise PayloadTooLargeError(
                    f"the result of step {key.step!r}", len(payload), PAYLOAD_BYTES_MAX
                )
        except _TimeIsUpError:
            return TimedOut(call.timeout_ms or 0)
        except BaseException as error:  # noqa: BLE001 - whatever the step raises is its failure
            return failed_by(error)
        return Succeeded(payload)

    async def _timed(self, call: StepCall) -> Any:
        if call.timeout_ms is None:
            return await self._call(call)
        timeout = asyncio.timeout(call.timeout_ms / 1_000)
        try:
            async with timeout:
                return await self._call(call)
        except TimeoutError:
            if timeout.expired():
                raise _TimeIsUpError from None
            raise

    async def _call(self, call: StepCall) -> Any:
        function = partial(call.function, *call.args, **call.kwargs)
        if _is_async(call.function):
            return await function()
        value, error = await self.threads.call(function)
        if error is not None:
            raise error
        if inspect.isawaitable(value):
            return await value
        return value


class _TimeIsUpError(Exception):
    """The attempt took longer than its timeout; a TimeoutError of its own is its failure."""


def _is_async(function: Callable[..., Any]) -> bool:
    while isinstance(function, partial):
        function = function.func
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
        getattr(function, "__call__", None)  # noqa: B004 - an object with an async __call__
    )


def _result_of(task: asyncio.Task[Result]) -> Result:
    """A GeneratorExit that was thrown in closes the coroutines below, and ends the task."""
    if task.cancelled():
        return failed_by(asyncio.CancelledError())
    error = task.exception()
    return task.result() if error is None else failed_by(error)


def failed_by(error: BaseException) -> Failed:
    """The failure as it is recorded. Fatal errors and payload errors are not retried."""
    failure = failure_of(error)
    return Failed(
        error_type=failure.error_type,
        message=failure.message,
        stack=failure.stack,
        retryable=not isinstance(error, Fatal | PayloadError),
        delay_ms=_delay_of(error),
    )


def _delay_of(error: BaseException) -> int | None:
    """A subclass of RetryAfter may have none, or one of its own making."""
    delay: object = getattr(error, "delay_ms", None) if isinstance(error, RetryAfter) else None
    return delay if isinstance(delay, int) and 0 <= delay <= DURATION_MAX_MS else None
