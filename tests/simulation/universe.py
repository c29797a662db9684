"""Virtual time: a heap of what will happen, and event loops that live in it.

Nothing here waits. When nothing more is to do at a moment, time jumps to the next one.
Every simulated process has a loop of its own, so that a process can crash between any two
callbacks (its loop never turns again), stop for a while, or be slow. What happens is a
function of the calls made and of nothing else: equal times are served in the order in
which they were asked for, and no order depends on an address or a hash.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import math
from asyncio import events
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context
from typing import Any, TypeAlias, TypeVar

Call: TypeAlias = Callable[[], object]
T = TypeVar("T")

CALLBACK_US = 20
"""What one callback of a healthy process takes, in virtual microseconds."""
NEVER_US = 1 << 62
TASKS_PRUNED_AT = 256


CALLBACKS_MAX = 2_000_000
"""A run has some ten thousand; one with more spins."""


class StuckError(KeyboardInterrupt):
    """Code runs and runs, and time does not pass.

    Nothing between here and the simulation may catch it, hence its base.
    """


class Universe:
    """The one clock, in microseconds, and all that is going to happen."""

    def __init__(self) -> None:
        self.now_us = 0
        self.next_due_us = NEVER_US
        self.callbacks = 0
        self._heap: list[tuple[int, int, Call]] = []
        self._number = 0

    @property
    def now_s(self) -> float:
        return self.now_us / 1_000_000

    def at(self, due_us: int, call: Call) -> None:
        self._number += 1
        if due_us < self.now_us:
            due_us = self.now_us
        heapq.heappush(self._heap, (due_us, self._number, call))
        if due_us < self.next_due_us:
            self.next_due_us = due_us

    def after(self, delay_us: int, call: Call) -> None:
        self.at(self.now_us + delay_us, call)

    def run_until(self, end_us: int, is_over: Callable[[], bool] = lambda: False) -> None:
        """Let everything happen that is due by then, or until it is over."""
        heap = self._heap
        while heap and heap[0][0] <= end_us and not is_over():
            due_us, _, call = heapq.heappop(heap)
            self.next_due_us = heap[0][0] if heap else NEVER_US
            self.now_us = max(self.now_us, due_us)
            call()
        if not is_over():
            self.now_us = max(self.now_us, end_us)


def new_loop(universe: Universe, name: str) -> SimLoop:
    return SimLoop(universe, name)  # type: ignore[abstract] # asyncio's class refuses the rest


class SimLoop(asyncio.AbstractEventLoop):
    """One process's event loop. What it cannot do (sockets, signals) asyncio refuses by itself."""

    def __init__(self, universe: Universe, name: str) -> None:
        self.universe = universe
        self.name = name
        self.owner: object = None  # whoever made it, for code that runs on it
        self.callback_us = CALLBACK_US
        self.is_dead = False
        self.is_paused = False
        self.callbacks_to_live: int | None = None
        self.on_death: Call = lambda: None
        self.failures: list[str] = []
        self._ready: deque[asyncio.Handle] = deque()
        self._is_turn_due = False
        self._free_at_us = 0
        self._tasks: list[asyncio.Task[Any]] = []
        self._tasks_made = 0

    # For the simulation

    def kill(self) -> None:
        """Never turn again; what was to run is forgotten."""
        self.is_dead = True
        self._ready.clear()

    def pause(self) -> None:
        self.is_paused = True

    def resume(self) -> None:
        self.is_paused = False
        self._ask_for_turn()

    def bury(self) -> None:
        """Let the coroutines of a dead loop go: at once, for the collector has no fixed hour."""
        for task in self._tasks:
            if not task.done():
                task._log_destroy_pending = False  # type: ignore[attr-defined] # pyright: ignore[reportAttributeAccessIssue] - private
                close_coroutine(task.get_coro())
        self._tasks.clear()

    def run_until_complete(self, work: Any) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride] - its name
        """For tests that are written against a loop; the universe turns until it is done."""
        task: asyncio.Task[Any] = self.create_task(work)
        self.universe.run_until(NEVER_US, task.done)
        return task.result()

    # A turn

    def _ask_for_turn(self) -> None:
        if not self._is_turn_due and self._ready and not (self.is_dead or self.is_paused):
            self._is_turn_due = True
            self.universe.at(max(self.universe.now_us, self._free_at_us), self._turn)

    def _turn(self) -> None:
        """Run callbacks, one at a time, until something else is due first."""
        self._is_turn_due = False
        universe = self.universe
        if universe.callbacks > CALLBACKS_MAX:
            raise StuckError(f"{universe.callbacks} callbacks in {universe.now_s:.3f} s")
        ready = self._ready
        outer = events._get_running_loop()
        events._set_running_loop(self)
        try:
            while ready and not (self.is_dead or self.is_paused):
                handle = ready.popleft()
                if handle.cancelled():
                    continue
                universe.callbacks += 1
                handle._run()
                if self.callbacks_to_live is not None:
                    self._live_shorter()
                free_at_us = self._free_at_us = universe.now_us + self.callback_us
                if universe.next_due_us <= free_at_us:
                    break
                universe.now_us = free_at_us
        finally:
            events._set_running_loop(outer)
        self._ask_for_turn()

    def _live_shorter(self) -> None:
        assert self.callbacks_to_live is not None
        self.callbacks_to_live -= 1
        if self.callbacks_to_live <= 0:
            self.callbacks_to_live = None
            self.on_death()

    # What asyncio asks of a loop

    def time(self) -> float:
        return self.universe.now_us / 1_000_000

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return events._get_running_loop() is self

    def is_closed(self) -> bool:
        return self.is_dead

    def call_soon(  # type: ignore[override] # typeshed ties args to the callback's own
        self, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        if not self.is_dead:
            self._ready.append(handle)
            self._ask_for_turn()
        return handle

    def call_soon_threadsafe(  # type: ignore[override] # as above
        self, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        return self.call_soon(callback, *args, context=context)

    def call_later(  # type: ignore[override] # as above
        self, delay: float, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        return self.call_at(self.time() + delay, callback, *args, context=context)

    def call_at(  # type: ignore[override] # as above
        self, when: float, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        timer = asyncio.TimerHandle(when, callback, args, self, context)
        if not self.is_dead:
            self.universe.at(math.ceil(when * 1_000_000), lambda: self._due(timer))
        return timer

    def _due(self, timer: asyncio.TimerHandle) -> None:
        if not timer.cancelled() and not self.is_dead:
            self._ready.append(timer)
            self._ask_for_turn()

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """It is passed over when its time has come."""

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(  # type: ignore[override] # pyright: ignore[reportIncompatibleMethodOverride] - no generators
        self,
        coro: Coroutine[Any, Any, T],
        *,
        name: str | None = None,
        context: Context | None = None,
        **options: Any,
    ) -> asyncio.Task[T]:
        self._tasks_made += 1
        task = _Task(self._tasks_made, coro, loop=self, name=name, context=context, **options)
        if len(self._tasks) >= TASKS_PRUNED_AT:
            self._tasks = [each for each in self._tasks if not each.done()]
        self._tasks.append(task)
        return task

    def run_in_executor(  # type: ignore[override] # as above
        self, executor: Any, func: Callable[..., T], *args: Any
    ) -> asyncio.Future[T]:
        """The function runs by itself, a moment later: a thread without a thread."""
        future: asyncio.Future[T] = self.create_future()

        def work() -> None:
            if future.cancelled():
                return
            try:
                future.set_result(func(*args))
            except Exception as error:  # noqa: BLE001 - as a thread pool hands it over
                future.set_exception(error)

        self.call_later(0.000_05, work)
        return future

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """A callback that raised was passed over, and that must not happen in the engine."""
        if "handle" in context and not self.is_dead:
            self.failures.append(f"{context.get('message')}: {context.get('exception')!r}")

    def default_exception_handler(self, context: dict[str, Any]) -> None:
        self.call_exception_handler(context)

    async def shutdown_asyncgens(self) -> None:
        return None

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:
        return None


class _Task(asyncio.Task[T]):
    """Hashed by its number: asyncio and the worker keep tasks in sets, whose order shows."""

    def __init__(self, number: int, coro: Coroutine[Any, Any, T], **options: Any) -> None:
        self._number = number  # first: being made, it is put into a set already
        super().__init__(coro, **options)

    def __hash__(self) -> int:
        return self._number


CLOSINGS_MAX = 5


def close_coroutine(coroutine: Any) -> None:
    """Close it where it stands; code that awaits in its `finally` needs to be told again."""
    for _ in range(CLOSINGS_MAX):
        try:
            coroutine.close()
        except RuntimeError:  # it awaited something instead of ending
            continue
        except BaseException:  # noqa: BLE001 - a dead process's last words
            return
        return


def quietly_bury(loops: list[SimLoop]) -> None:
    for loop in loops:
        loop.kill()
    for loop in loops:
        with contextlib.suppress(RuntimeError):
            loop.bury()
