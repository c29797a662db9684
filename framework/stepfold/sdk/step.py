"""Steps: the units of work whose results are recorded.

`step` is a decorator and a namespace. In workflow code a step call becomes an entry in
the run's history; inside another step, and outside of runs, it is an ordinary call.
"""

from __future__ import annotations

import asyncio
import inspect
import random
import uuid
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from functools import partial, update_wrapper
from typing import Any, Generic, NoReturn, ParamSpec, TypeVar, TypeVarTuple, cast, overload

from stepfold.core.durations import Duration, to_milliseconds
from stepfold.core.errors import ConfigurationError, NotBuiltError
from stepfold.core.retry import Retry
from stepfold.sdk.context import current_instance
from stepfold.sdk.payload import type_adapter

P = ParamSpec("P")
R = TypeVar("R")
Ts = TypeVarTuple("Ts")

STEP_NAME_MAX = 200


class StepFunction(Generic[P, R]):
    """A function declared as a step; awaiting a call of it in a workflow records the result."""

    def __init__(
        self,
        function: Callable[P, Coroutine[Any, Any, R]] | Callable[P, R],
        *,
        name: str | None,
        retry: Retry | None,
        timeout_ms: int | None,
        key: str | None = None,
    ) -> None:
        update_wrapper(self, function)
        self.function = function
        self.name = check_name(name or function.__name__)
        self._retry = retry
        self._timeout_ms = timeout_ms
        self._key = key

    async def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        instance = current_instance()
        if instance is None:
            return cast("R", await run_directly(self.function, *args, **kwargs))
        future = instance.call_step(
            self.name,
            self.function,
            args,
            kwargs,
            retry=self._retry,
            timeout_ms=self._timeout_ms,
            key=self._key,
        )
        return cast("R", await future)

    def options(
        self,
        *,
        key: str | None = None,
        retry: Retry | None = None,
        timeout: Duration | None = None,
    ) -> StepFunction[P, R]:
        """The same step for one call: `await search.options(key=url)(url)`.

        key replaces the counter in the step's identity, for loops that reorder.
        """
        return StepFunction(
            self.function,
            name=self.name,
            retry=retry or self._retry,
            timeout_ms=self._timeout_ms if timeout is None else milliseconds(timeout, self.name),
            key=key,
        )


class StepDecorator:
    def __init__(self, name: str | None, retry: Retry | None, timeout: Duration | None) -> None:
        self._name = name
        self._retry = retry
        self._timeout_ms = None if timeout is None else milliseconds(timeout, name or "a step")

    @overload
    def __call__(self, function: Callable[P, Coroutine[Any, Any, R]], /) -> StepFunction[P, R]: ...
    @overload
    def __call__(self, function: Callable[P, R], /) -> StepFunction[P, R]: ...
    def __call__(self, function: Callable[..., Any], /) -> StepFunction[..., Any]:
        return StepFunction(
            function, name=self._name, retry=self._retry, timeout_ms=self._timeout_ms
        )


class Steps:
    """What `stepfold.step` is."""

    @overload
    def __call__(self, function: Callable[P, Coroutine[Any, Any, R]], /) -> StepFunction[P, R]: ...
    @overload
    def __call__(self, function: Callable[P, R], /) -> StepFunction[P, R]: ...
    @overload
    def __call__(
        self,
        *,
        name: str | None = None,
        retry: Retry | None = None,
        timeout: Duration | None = None,
    ) -> StepDecorator: ...
    def __call__(self, *function: Callable[..., Any], **options: Any) -> Any:
        """Declare a function as a step; a plain function runs in a thread."""
        decorator = StepDecorator(
            options.pop("name", None), options.pop("retry", None), options.pop("timeout", None)
        )
        if options:
            raise ConfigurationError(f"@step has no option {next(iter(options))!r}")
        return decorator(*function) if function else decorator

    @overload
    async def run(
        self,
        name: str,
        function: Callable[[*Ts], Coroutine[Any, Any, R]],
        /,
        *args: *Ts,
        retry: Retry | None = None,
        timeout: Duration | None = None,
        key: str | None = None,
    ) -> R: ...
    @overload
    async def run(
        self,
        name: str,
        function: Callable[[*Ts], R],
        /,
        *args: *Ts,
        retry: Retry | None = None,
        timeout: Duration | None = None,
        key: str | None = None,
    ) -> R: ...
    async def run(  # type: ignore[misc] # pyright: ignore[reportInconsistentOverload] - variadic
        self, *args: Any, **options: Any
    ) -> Any:
        """Run a function as a step of this name.

        Raises StepFailed when its attempts are used up, or it failed fatally.
        """
        name, function, *given = args
        check_name(name)
        retry, timeout, key = (options.pop(o, None) for o in ("retry", "timeout", "key"))
        if options:
            raise TypeError(
                f"step.run({name!r}) has no option {next(iter(options))!r}; it passes positional"
                " arguments only: wrap the function in functools.partial for others"
            )
        timeout_ms = None if timeout is None else milliseconds(timeout, name)
        if isinstance(function, StepFunction):
            function = cast("StepFunction[..., Any]", function).function
        instance = current_instance()
        if instance is None:
            return await run_directly(function, *given)
        return await instance.call_step(
            name, function, tuple(given), {}, retry=retry, timeout_ms=timeout_ms, key=key
        )

    async def sleep(self, name: str, delay: Duration) -> None:
        """Sleep, also over crashes and deploys; at most 366 days."""
        check_name(name)
        instance = current_instance()
        delay_ms = milliseconds(delay, name)
        if instance is None:
            await asyncio.sleep(delay_ms / 1_000)
        else:
            await instance.call_sleep(name, instance.now_ms() + delay_ms)

    async def sleep_until(self, name: str, when: datetime) -> None:
        """Sleep until a moment; one that is over is no sleep. `when` must have a time zone."""
        if when.tzinfo is None:
            raise ValueError(f"sleep_until({name!r}) needs a time with a time zone, got {when}")
        await self.sleep(name, max(0.0, (when - self.now()).total_seconds()))

    async def wait_for_signal(
        self,
        name: str,
        type: type[R],  # noqa: A002 - the contract's name
        /,
        *,
        timeout: Duration | None = None,
    ) -> R | None:
        """Wait until somebody signals the run by this name; None when the time ran out.

        A signal that came before is not lost: it is delivered at once.
        """
        check_name(name)
        instance = current_instance()
        if instance is None:
            raise RuntimeError(f"wait_for_signal({name!r}) works in workflow code only")
        timeout_ms = None if timeout is None else milliseconds(timeout, name)
        return cast("R | None", await instance.call_signal(name, type_adapter(type), timeout_ms))

    def now(self) -> datetime:
        """The time, the same on every replay; in UTC."""
        instance = current_instance()
        return datetime.now(UTC) if instance is None else instance.now()

    def uuid(self) -> uuid.UUID:
        """A random UUID, the same on every replay."""
        instance = current_instance()
        return uuid.uuid4() if instance is None else instance.uuid()

    def random(self) -> random.Random:
        """A random generator, seeded the same on every replay."""
        instance = current_instance()
        return random.Random() if instance is None else instance.random()

    def wait_for_event(self, name: str, *args: Any, **options: Any) -> NoReturn:
        raise NotBuiltError("step.wait_for_event", f"wait {name!r}")

    def send_event(self, name: str, *args: Any, **options: Any) -> NoReturn:
        raise NotBuiltError("step.send_event", f"step {name!r}")

    def invoke(self, name: str, *args: Any, **options: Any) -> NoReturn:
        raise NotBuiltError("step.invoke", f"step {name!r}")

    def start(self, name: str, *args: Any, **options: Any) -> NoReturn:
        raise NotBuiltError("step.start", f"step {name!r}")


step = Steps()


def check_name(name: str) -> str:
    if not name or len(name) > STEP_NAME_MAX:
        raise ConfigurationError(
            f"the name of a step must have 1 to {STEP_NAME_MAX} characters, got {name!r}"
        )
    return name


def milliseconds(duration: Duration, where: str) -> int:
    try:
        return to_milliseconds(duration)
    except ValueError as error:
        raise ValueError(f"step {where!r}: {error}") from error


async def run_directly(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Outside of runs a step is its function; a plain one runs in a thread as it would there."""
    if inspect.iscoroutinefunction(function):
        return await function(*args, **kwargs)
    value = await asyncio.to_thread(partial(function, *args, **kwargs))
    return await value if inspect.isawaitable(value) else value
