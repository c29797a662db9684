"""Calls a step's function and says how that ended, in the worker as in an isolated process."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

from stepfold.core.durations import DURATION_MAX_MS
from stepfold.core.errors import Fatal, PayloadError, PayloadTooLargeError, RetryAfter
from stepfold.engine.threads import Threads
from stepfold.sdk.calls import StepCall
from stepfold.sdk.failures import failure_of

PAYLOAD_BYTES_MAX = 900_000
"""The largest input or result that fits into one event (rule R20)."""


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


@dataclass(frozen=True, slots=True)
class Died:
    """The process that ran the attempt, and nothing else, is gone.

    is_proof: whether the step's function was called in it, and no other ever was; otherwise
    it may have died of something else.
    """

    evidence: str
    is_proof: bool


Result: TypeAlias = Succeeded | Failed | TimedOut


async def outcome_of(
    call: StepCall,
    threads: Threads,
    *,
    lets_through: tuple[type[BaseException], ...] = (),
) -> Result:
    """User code may raise anything, SystemExit and CancelledError included."""
    try:
        return await _outcome(call, threads)
    except lets_through:
        raise
    except BaseException as error:  # noqa: BLE001 - whatever the step raises is its failure
        return failed_by(error)


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


async def _outcome(call: StepCall, threads: Threads) -> Result:
    try:
        if _is_async(call.function):
            value = await _timed(call, threads)
        else:
            async with threads.room:  # waiting for a thread is not the step's time
                value = await _timed(call, threads)
    except _TimeIsUpError:
        return TimedOut(call.timeout_ms or 0)
    payload = call.encode_result(value)
    if len(payload) > PAYLOAD_BYTES_MAX:
        raise PayloadTooLargeError(
            f"the result of step {call.step!r}", len(payload), PAYLOAD_BYTES_MAX
        )
    return Succeeded(payload)


class _TimeIsUpError(Exception):
    """The attempt took longer than its timeout; a TimeoutError of its own is its failure."""


async def _timed(call: StepCall, threads: Threads) -> Any:
    if call.timeout_ms is None:
        return await _value(call, threads)
    timeout = asyncio.timeout(call.timeout_ms / 1_000)
    try:
        async with timeout:
            return await _value(call, threads)
    except TimeoutError:
        if timeout.expired():
            raise _TimeIsUpError from None
        raise


async def _value(call: StepCall, threads: Threads) -> Any:
    function = partial(call.function, *call.args, **call.kwargs)
    if _is_async(call.function):
        return await function()
    value, error = await threads.call(function)
    if error is not None:
        raise error
    if inspect.isawaitable(value):
        return await value
    return value


def _is_async(function: Callable[..., Any]) -> bool:
    while isinstance(function, partial):
        function = function.func
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
        getattr(function, "__call__", None)  # noqa: B004 - an object with an async __call__
    )
