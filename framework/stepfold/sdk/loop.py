"""The event loop of one run: asyncio without a clock, a socket or a thread.

Workflow code runs here, so that plain asyncio in it takes the same branch on every
replay. Time stands still during an activation; timers are durable, named in the order
of their creation, and fire only when the engine says so. Whatever would reach outside
is refused, with the advice to do it in a step.

It must be entered from a callback of the outer loop, not from inside one of its tasks:
newer Pythons keep one current task per thread.
"""

from __future__ import annotations

import asyncio
from asyncio import events
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context
from typing import Any, NoReturn

CALLBACKS_PER_ACTIVATION_MAX = 1_000_000
"""A workflow that takes more turns than this without waiting is taken to spin."""
TASKS_PRUNED_AT = 64
"""Tasks noted before the finished ones are forgotten."""


def new_run_loop(now_ms: int) -> RunLoop:
    """A loop whose time is `now_ms`."""
    return RunLoop(now_ms)  # type: ignore[abstract] # what is refused is set by name below


class OutsideWorldError(RuntimeError):
    """Workflow code reached for something that a replay could not repeat."""

    def __init__(self, what: str) -> None:
        super().__init__(
            f"{what} is not available in workflow code, because a replay could not repeat it; "
            "do it in a step: await step.run(name, function, ...)"
        )


class RunLoop(asyncio.AbstractEventLoop):
    def __init__(self, now_ms: int) -> None:
        self._now_s = now_ms / 1_000
        self._ready: deque[asyncio.Handle] = deque()
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._timer_ids: dict[asyncio.TimerHandle, str] = {}
        self._timers_made = 0
        self._is_closed = False
        self._tasks: list[asyncio.Task[Any]] = []
        self.unhandled: BaseException | None = None

    # What the engine does

    def advance_to(self, now_ms: int) -> None:
        self._now_s = max(self._now_s, now_ms / 1_000)

    def run_until_blocked(self) -> None:
        """Run callbacks until none is ready. Raises RuntimeError when they never end."""
        outer = events._get_running_loop()
        events._set_running_loop(self)
        try:
            ready = self._ready
            for _ in range(CALLBACKS_PER_ACTIVATION_MAX):
                if not ready:
                    return
                handle = ready.popleft()
                if not handle.cancelled():
                    handle._run()
            raise RuntimeError(
                f"the workflow took {CALLBACKS_PER_ACTIVATION_MAX} turns without waiting for "
                "anything; a loop in it waits for nothing that a step, a timer or a signal brings"
            )
        finally:
            events._set_running_loop(outer)

    def pending_timers(self) -> dict[str, int]:
        """Timer ids to due times in milliseconds."""
        return {name: round(timer.when() * 1_000) for name, timer in self._timers.items()}

    def fire(self, timer_id: str) -> bool:
        """Run the timer's callback; whether there was such a timer."""
        timer = self._timers.pop(timer_id, None)
        if timer is None:
            return False
        del self._timer_ids[timer]
        self._now_s = max(self._now_s, timer.when())
        self._ready.append(timer)
        return True

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
        self._ready.clear()
        self._timers.clear()
        self._timer_ids.clear()

    def call_soon(  # type: ignore[override] # typeshed ties args to the callback's own
        self, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
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
        timer = asyncio.TimerHandle(when, callback, args, self, context)
        if when <= self._now_s:
            self._ready.append(timer)
            return timer
        self._timers_made += 1
        name = "timer" if self._timers_made == 1 else f"timer#{self._timers_made}"
        self._timers[name] = timer
        self._timer_ids[timer] = name
        return timer

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        name = self._timer_ids.pop(handle, None)
        if name is not None:
            del self._timers[name]

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(  # type: ignore[override] # generators are no coroutines any more
        self,
        coro: Coroutine[Any, Any, Any],
        *,
        name: str | None = None,
        context: Context | None = None,
        **options: Any,
    ) -> asyncio.Task[Any]:
        task: asyncio.Task[Any] = asyncio.Task(
            coro, loop=self, name=name, context=context, **options
        )
        if len(self._tasks) >= TASKS_PRUNED_AT:
            self._tasks = self.living_tasks()
        self._tasks.append(task)
        return task

    def living_tasks(self) -> list[asyncio.Task[Any]]:
        """asyncio.all_tasks() would look through the tasks of every run of the process."""
        return [task for task in self._tasks if not task.done()]

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Kept: whether it matters shows when the workflow ends."""
        self.unhandled = context.get("exception")

    def default_exception_handler(self, context: dict[str, Any]) -> None:
        self.call_exception_handler(context)

    async def shutdown_asyncgens(self) -> None:
        return None

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:
        return None


def _refusal(name: str) -> Callable[..., NoReturn]:
    def refuse(self: RunLoop, *args: Any, **options: Any) -> NoReturn:
        raise OutsideWorldError(f"loop.{name}")

    return refuse


for _name in (
    "add_reader",
    "add_signal_handler",
    "add_writer",
    "call_soon_threadsafe",
    "connect_accepted_socket",
    "connect_read_pipe",
    "connect_write_pipe",
    "create_connection",
    "create_datagram_endpoint",
    "create_server",
    "create_unix_connection",
    "create_unix_server",
    "getaddrinfo",
    "getnameinfo",
    "run_forever",
    "run_in_executor",
    "run_until_complete",
    "sendfile",
    "set_default_executor",
    "set_task_factory",
    "sock_accept",
    "sock_connect",
    "sock_recv",
    "sock_recv_into",
    "sock_recvfrom",
    "sock_sendall",
    "sock_sendfile",
    "sock_sendto",
    "start_tls",
    "stop",
    "subprocess_exec",
    "subprocess_shell",
):
    setattr(RunLoop, _name, _refusal(_name))
