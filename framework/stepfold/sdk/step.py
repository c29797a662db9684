"""Steps: the units of work whose results are recorded.

`step` is a decorator and a namespace. In workflow code a step call becomes an entry in
the run's history; inside another step, and outside of runs, it is an ordinary call.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import random
import uuid
from collections.abc import Callable, Coroutine, Mapping
from datetime import UTC, datetime
from functools import partial, update_wrapper
from typing import (
    TYPE_CHECKING,
    Any,
    Generic,
    NamedTuple,
    NoReturn,
    ParamSpec,
    TypeVar,
    TypeVarTuple,
    cast,
    overload,
)

from stepfold.core.durations import Duration
from stepfold.core.errors import ConfigurationError, NotBuiltError
from stepfold.core.retry import Retry
from stepfold.sdk.beyond import CallsBeyond
from stepfold.sdk.context import asked, current_instance
from stepfold.sdk.failures import shown
from stepfold.sdk.functions import UnresolvedError, callers_names, check_runs_once
from stepfold.sdk.names import check_step_name
from stepfold.sdk.payload import result_adapter, type_adapter
from stepfold.sdk.policies import checked_duration, checked_retry, checked_timeout

if TYPE_CHECKING:
    from stepfold.sdk.activation import WorkflowInstance

P = ParamSpec("P")
R = TypeVar("R")
Ts = TypeVarTuple("Ts")


class StepFunction(Generic[P, R]):
    """A function declared as a step; awaiting a call of it in a workflow records the result."""

    def __init__(
        self,
        function: Callable[P, Coroutine[Any, Any, R]] | Callable[P, R],
        *,
        name: str,
        retry: Retry | None,
        timeout_ms: int | None,
        key: str | None = None,
    ) -> None:
        update_wrapper(self, function)
        self.function = function
        self.name = name
        self._retry = retry
        self._timeout_ms = timeout_ms
        self._key = key

    def __set_name__(self, owner: type, name: str) -> None:
        if getattr(self, "__qualname__", "") == f"{owner.__qualname__}.{name}":
            raise ConfigurationError(
                f"step {self.name!r} is declared on a method of {owner.__qualname__}; declare a "
                "function outside of the class, or call step.run(name, object.method, ...)"
            )

    async def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        instance = current_instance()
        if instance is None:
            return cast("R", await run_directly(self.function, *args, **kwargs))
        return cast(
            "R",
            await asked(
                lambda: instance.call_step(
                    self.name,
                    self.function,
                    args,
                    kwargs,
                    retry=self._retry,
                    timeout_ms=self._timeout_ms,
                    key=self._key,
                    is_declared=True,
                )
            ),
        )

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
        where = f"step {self.name!r}"
        timeout_ms = checked_timeout(timeout, where)
        return StepFunction(
            self.function,
            name=self.name,
            retry=checked_retry(retry, where) or self._retry,
            timeout_ms=self._timeout_ms if timeout_ms is None else timeout_ms,
            key=key,
        )


class StepDecorator:
    """What `@step(...)` with options returns."""

    def __init__(self, name: str | None, retry: Retry | None, timeout: Duration | None) -> None:
        where = "@step" if name is None else f"step {name!r}"
        self._name = name
        self._retry = checked_retry(retry, where)
        self._timeout_ms = checked_timeout(timeout, where)

    @overload
    def __call__(self, function: Callable[P, Coroutine[Any, Any, R]], /) -> StepFunction[P, R]: ...
    @overload
    def __call__(self, function: Callable[P, R], /) -> StepFunction[P, R]: ...
    def __call__(self, function: Callable[..., Any], /) -> StepFunction[..., Any]:
        return self.declare(function, callers_names())

    def declare(
        self, function: Callable[..., Any], names: Mapping[str, Any]
    ) -> StepFunction[..., Any]:
        check_runs_once(function, "@step" if self._name is None else f"step {self._name!r}")
        own_name = getattr(function, "__name__", None)
        name = check_step_name(own_name if self._name is None else self._name)
        # A type may be defined further down; then the first call asks again.
        with contextlib.suppress(UnresolvedError):
            result_adapter(function, names)
        return StepFunction(function, name=name, retry=self._retry, timeout_ms=self._timeout_ms)


class Steps(CallsBeyond):
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
    def __call__(self, *functions: Any, **options: Any) -> Any:
        """Declare a function as a step; a plain function runs in a thread."""
        decorator = StepDecorator(
            options.pop("name", None), options.pop("retry", None), options.pop("timeout", None)
        )
        if options:
            raise ConfigurationError(f"@step has no option {next(iter(options))!r}")
        if not functions:
            return decorator
        function, *others = functions
        if others or isinstance(function, str):
            raise ConfigurationError(
                f"@step takes a function, got {', '.join(map(shown, functions))}; "
                "its options are @step(name=..., retry=..., timeout=...)"
            )
        return decorator.declare(function, callers_names())

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
        instance = current_instance()
        if instance is None:
            call = _inline(*args, **options)
            return await run_directly(call.function, *call.args)
        return await asked(lambda: _inline(*args, **options).ask(instance))

    async def sleep(self, name: str, delay: Duration) -> None:
        """Sleep, also over crashes and deploys; at most 366 days."""
        await self._sleep(name, lambda: checked_duration(delay, f"sleep {name!r}"))

    async def sleep_until(self, name: str, when: datetime) -> None:
        """Sleep until a moment; one that is over is no sleep. `when` must have a time zone."""
        await self._sleep(name, lambda: _until(name, when, self.now()))

    async def _sleep(self, name: str, delay_ms: Callable[[], int]) -> None:
        instance = current_instance()
        if instance is None:
            check_step_name(name)
            await asyncio.sleep(delay_ms() / 1_000)
        else:
            await asked(lambda: instance.call_sleep(name, instance.now_ms() + delay_ms()))

    @overload
    async def wait_for_signal(
        self, name: str, type: type[R], /, *, timeout: Duration | None = None
    ) -> R | None: ...
    @overload
    async def wait_for_signal(
        self, name: str, type: object, /, *, timeout: Duration | None = None
    ) -> Any: ...
    async def wait_for_signal(
        self,
        name: str,
        type: object,  # noqa: A002 - the contract's name
        /,
        *,
        timeout: Duration | None = None,
    ) -> Any:
        """Wait until somebody signals the run by this name; None when the time ran out.

        A signal that came before is not lost: it is delivered at once.
        """
        instance = current_instance()
        if instance is None:
            raise RuntimeError(
                f"wait_for_signal({name!r}) works in workflow code only; in a step there is no "
                "run that could be signalled"
            )
        what = f"signal {name!r}"
        return await asked(
            lambda: instance.call_signal(
                name,
                type_adapter(type, what),
                None if timeout is None else checked_duration(timeout, f"timeout= of {what}"),
            )
        )

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


step = Steps()


class _Inline(NamedTuple):
    """A call of step.run, checked."""

    name: str
    function: Callable[..., Any]
    args: tuple[Any, ...]
    retry: Retry | None
    timeout_ms: int | None
    key: str | None

    def ask(self, instance: WorkflowInstance) -> asyncio.Future[Any]:
        return instance.call_step(
            self.name,
            self.function,
            self.args,
            {},
            retry=self.retry,
            timeout_ms=self.timeout_ms,
            key=self.key,
            is_declared=False,
        )


def _inline(
    name: str,
    function: Callable[..., Any],
    /,
    *args: Any,
    retry: Retry | None = None,
    timeout: Duration | None = None,
    key: str | None = None,
    **unknown: Any,
) -> _Inline:
    where = f"step.run({check_step_name(name)!r})"
    if unknown:
        raise TypeError(
            f"{where} has no option {next(iter(unknown))!r}; it passes positional arguments "
            "only: wrap the function in functools.partial for others"
        )
    check_runs_once(function, where)
    if isinstance(function, StepFunction):
        function = cast("StepFunction[..., Any]", function).function
    timeout_ms = checked_timeout(timeout, where)
    return _Inline(name, function, args, checked_retry(retry, where), timeout_ms, key)


def _until(name: str, when: object, now: datetime) -> int:
    if not isinstance(when, datetime) or when.tzinfo is None:
        raise ConfigurationError(
            f"sleep_until({name!r}) needs a datetime with a time zone, got {shown(when)}"
        )
    return checked_duration(max(0.0, (when - now).total_seconds()), f"sleep {name!r}")


async def run_directly(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Outside of runs a step is its function; a plain one runs in a thread as it would there."""
    if inspect.iscoroutinefunction(function):
        return await function(*args, **kwargs)
    value = await asyncio.to_thread(partial(function, *args, **kwargs))
    return await value if inspect.isawaitable(value) else value
