"""The event loop of one run: asyncio without a clock, a socket or a thread.

Workflow code runs here, so that plain asyncio in it takes the same branch on every
replay. Time stands still during an activation; timers are durable, named in the order
of their creation, and fire only when the engine says so. Whatever would reach outside
is refused, with the advice to do it in a step.

Three things of Python would make two replays differ, and are mended here. Sets of tasks
iterate in the order of addresses: tasks and futures of this loop have hashes that follow
from the run and the order of creation, and `asyncio.tasks` is given a `set` that keeps
order, for `as_completed` puts coroutines into one before it starts them. The garbage
collector closes dropped coroutines and generators whenever it comes by: it does not come
by during an activation. And asynchronous generators are closed by the loop that they
were first used on: that is this one, too.

It must be entered from a callback of the outer loop, not from inside one of its tasks:
newer Pythons keep one current task per thread.
"""

from __future__ import annotations

import asyncio
import gc
import math
import sys
import zlib
from asyncio import events
from collections import deque
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable
from contextvars import Context
from typing import Any

from stepfold.core.durations import DURATION_MAX_MS
from stepfold.sdk.outside import OutsideWorldError, refuse_outside_world

CALLBACKS_PER_ACTIVATION_MAX = 100_000
"""A workflow that takes more turns than this without waiting is taken to spin. It is 0.1 s or
more, in which all other runs stand still; a gather of 10,000 steps takes a fifth of it."""
TIMER = "timer"
"""Id of the first timer; the others are timer#2 and so on. No step may have this name."""
HASHES_PER_RUN_BITS = 24

Report = Callable[[dict[str, Any]], None]


def is_loop_timer(timer_id: str) -> bool:
    """Whether it is a timer of the workflow's loop, not a `step.sleep`."""
    return timer_id == TIMER or timer_id.startswith(f"{TIMER}#")


def new_run_loop(now_ms: int, run_id: str = "", report: Report | None = None) -> RunLoop:
    """A loop whose time is `now_ms`. report: told of errors that nobody can receive."""
    return RunLoop(now_ms, run_id, report)  # type: ignore[abstract] # what is refused is set by name below


class EndlessLoopError(RuntimeError):
    """Workflow code that never comes to wait for anything."""

    def __init__(self) -> None:
        super().__init__(
            f"the workflow took {CALLBACKS_PER_ACTIVATION_MAX} turns without waiting for "
            "anything; a loop in it waits for nothing that a step, a timer or a signal brings"
        )


class RunTask(asyncio.Task[Any]):
    """A task whose place in a set is the same on every replay."""

    __slots__ = ("_hash",)

    def __init__(self, coro: Coroutine[Any, Any, Any], *, loop: RunLoop, **options: Any) -> None:
        self._hash = loop.next_hash()  # first: the constructor puts the task into a set
        super().__init__(coro, loop=loop, **options)

    def __hash__(self) -> int:
        return self._hash


class RunFuture(asyncio.Future[Any]):
    """A future whose place in a set is the same on every replay."""

    __slots__ = ("_hash",)

    def __init__(self, *, loop: RunLoop) -> None:
        self._hash = loop.next_hash()
        super().__init__(loop=loop)

    def __hash__(self) -> int:
        return self._hash


class RunTimer(asyncio.TimerHandle):
    __slots__ = ("timer_id",)
    timer_id: str


IDLE: deque[asyncio.Handle] = deque()
"""Stands for the queue of each loop that does not run: an empty one of its own has 600 bytes."""


class RunLoop(asyncio.AbstractEventLoop):
    def __init__(self, now_ms: int, run_id: str, report: Report | None) -> None:
        self.context = Context()
        self._report = report
        self._now_s = now_ms / 1_000
        self._ready = IDLE
        self._timers: dict[str, RunTimer] = {}
        self._timers_made = 0
        self._is_closed = False
        self._tasks: dict[asyncio.Task[Any], None] = {}
        self._failed: list[asyncio.Task[Any]] = []
        self._dropped: list[AsyncGenerator[Any, Any]] = []
        # Distinct between runs as well: asyncio keeps the tasks of all loops in one set.
        self._hash = zlib.crc32(run_id.encode()) << HASHES_PER_RUN_BITS

    # What the engine does

    def advance_to(self, now_ms: int) -> None:
        self._now_s = max(self._now_s, now_ms / 1_000)

    def run(self, begin: Callable[[], None]) -> None:
        """Call `begin` as if from inside the loop, then run callbacks until none is ready.

        Raises EndlessLoopError, and SystemExit or KeyboardInterrupt of the author's code.
        """
        outer, hooks, collects = (
            events._get_running_loop(),
            sys.get_asyncgen_hooks(),
            gc.isenabled(),
        )
        gc.disable()
        sys.set_asyncgen_hooks(firstiter=None, finalizer=self._close_generator)
        events._set_running_loop(self)
        if self._ready is IDLE:
            ready: deque[asyncio.Handle] = deque()
            self._ready = ready
        try:
            begin()
            self._run_ready()
        finally:
            if not self._ready:
                self._ready = IDLE
            events._set_running_loop(outer)
            sys.set_asyncgen_hooks(*hooks)
            if collects:
                gc.enable()

    def pending_timers(self) -> dict[str, int]:
        """Timer ids to due times in milliseconds."""
        return {name: _due_ms(timer) for name, timer in self._timers.items()}

    def fire_earliest(self, now_ms: int) -> None:
        """Let the callback of the timer that is due first run, if one is due by now.

        By time and not by name: code that sets one timer more than the code that was
        recorded shifts the names, and must not fire another timer for it. And one at a
        time: what was to end at 50 s is over when a timeout at 60 s fires, however late
        after a pause of the worker both are.
        """
        timer = min(self._timers.values(), key=asyncio.TimerHandle.when, default=None)
        if timer is not None and _due_ms(timer) <= now_ms:
            del self._timers[timer.timer_id]
            self._now_s = max(self._now_s, timer.when())
            self._ready.append(timer)

    def living_tasks(self) -> list[asyncio.Task[Any]]:
        """asyncio.all_tasks() would look through the tasks of every run of the process."""
        return [task for task in self._tasks if not task.done()]

    def report_unseen(self) -> None:
        """Tell of the tasks that failed and that nobody awaited.

        asyncio does so when the collector takes them, which may be never.
        """
        for task in filter(_is_unseen, self._failed):
            message = f"task {task.get_name()!r} failed, and nobody awaited it"
            self.call_exception_handler({"message": message, "exception": task.exception()})
        self._failed.clear()

    def close_dropped(self) -> None:
        """Close the asynchronous generators that were dropped while nothing ran here."""
        dropped, self._dropped = self._dropped, []
        for generator in dropped:
            self._close_generator(generator)

    def next_hash(self) -> int:
        self._hash += 1
        return self._hash

    def _run_ready(self) -> None:
        ready = self._ready
        for _ in range(CALLBACKS_PER_ACTIVATION_MAX):
            if not ready:
                return
            handle = ready.popleft()
            if not handle.cancelled():
                handle._run()
        raise EndlessLoopError

    def _close_generator(self, generator: AsyncGenerator[Any, Any]) -> None:
        """Called when an unfinished generator is dropped, maybe by a thread's collector."""
        if self._is_closed:
            return
        if self.is_running():
            self.create_task(generator.aclose(), context=self.context.copy())
        else:
            self._dropped.append(generator)

    # What asyncio asks of a loop

    def time(self) -> float:
        return self._now_s

    def get_debug(self) -> bool:
        return False

    def set_debug(self, enabled: bool) -> None:
        """Debugging slows every callback and shows nothing that replay does not."""

    def is_running(self) -> bool:
        return events._get_running_loop() is self

    def is_closed(self) -> bool:
        return self._is_closed

    def close(self) -> None:
        self._is_closed = True
        self._ready = IDLE
        self._timers.clear()
        self._dropped.clear()

    def call_soon(  # type: ignore[override] # typeshed ties args to the callback's own
        self, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        if not self.is_running():
            raise OutsideWorldError(
                "an event, a queue or a future of workflow code was used from outside of it (from "
                "a step or a thread), which a replay could not repeat; let the step return the "
                "value, or send the run a signal"
            )
        handle = asyncio.Handle(callback, args, self, context)
        self._ready.append(handle)
        return handle

    def call_later(  # type: ignore[override] # typeshed ties args to the callback's own
        self, delay: float, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        return self.call_at(self._now_s + delay, callback, *args, context=context)

    def call_at(  # type: ignore[override] # typeshed ties args to the callback's own
        self, when: float, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        if not math.isfinite(when) or when - self._now_s > DURATION_MAX_MS / 1_000:
            raise ValueError(
                f"a sleep or timeout in workflow code lasts at most 366 days, got "
                f"{when - self._now_s:g} s; to wait without an end, wait for a signal"
            )
        timer = RunTimer(when, callback, args, self, context)
        timer.timer_id = ""
        if when <= self._now_s:
            self._ready.append(timer)
            return timer
        self._timers_made += 1
        timer.timer_id = TIMER if self._timers_made == 1 else f"{TIMER}#{self._timers_made}"
        self._timers[timer.timer_id] = timer
        return timer

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        assert isinstance(handle, RunTimer)
        self._timers.pop(handle.timer_id, None)

    def create_future(self) -> asyncio.Future[Any]:
        return RunFuture(loop=self)

    def create_task(self, coro: Any, **options: Any) -> asyncio.Task[Any]:
        task = RunTask(coro, loop=self, **options)
        # Held here: one that waits for what nobody else knows would be collected.
        self._tasks[task] = None
        task.add_done_callback(self._forget)
        return task

    def _forget(self, task: asyncio.Task[Any]) -> None:
        self._tasks.pop(task, None)
        if not task.cancelled() and _is_unseen(task):
            self._failed.append(task)

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        if self._report is not None and not self._is_closed:
            self._report(context)

    def default_exception_handler(self, context: dict[str, Any]) -> None:
        self.call_exception_handler(context)

    async def shutdown_asyncgens(self) -> None:
        return None

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:
        return None


def _is_unseen(task: asyncio.Task[Any]) -> bool:
    """Whether the task has an error that nobody has asked for."""
    untyped: Any = task
    return bool(untyped._log_traceback)


def _due_ms(timer: asyncio.TimerHandle) -> int:
    return round(timer.when() * 1_000)


refuse_outside_world(RunLoop)


def _set_in_order(items: Iterable[Any] = ()) -> Any:
    """What `asyncio.tasks` uses for a set: inside of workflows it keeps the order."""
    if isinstance(events._get_running_loop(), RunLoop):
        return dict.fromkeys(items) or set[Any]()
    return set(items)


asyncio.tasks.__dict__["set"] = _set_in_order
