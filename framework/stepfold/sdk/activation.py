"""A workflow's code in memory: recorded outcomes in, step calls out.

`activate` hands one outcome to the code, lets it run until it blocks, and returns what
it then wants. It never raises: whatever the author's code does becomes the run's end.
The same code serves the live run and the replay; an outcome whose call is not made yet
(steps were inserted or moved since) is kept, and answers the call when it is made.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import random
import uuid
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from functools import partial
from hashlib import sha256
from typing import Any, NamedTuple

from pydantic import TypeAdapter

from stepfold.core.errors import PayloadError, StepFailed
from stepfold.core.outcomes import (
    CancelAsked,
    ChildErrored,
    ChildReturned,
    Outcome,
    SignalArrived,
    StepErrored,
    StepSucceeded,
    TimerElapsed,
    WaitTimedOut,
)
from stepfold.core.retry import Retry
from stepfold.sdk.calls import (
    ANSWERS,
    WORDS,
    Call,
    Cancelled,
    Completed,
    Completion,
    End,
    Errored,
    Parked,
    SignalCall,
    SleepCall,
    StepCall,
)
from stepfold.sdk.context import CURRENT, RunInfo, RunLogger, Scope
from stepfold.sdk.event import Event
from stepfold.sdk.failures import bounded, failure_of
from stepfold.sdk.loop import EndlessLoopError, is_loop_timer, new_run_loop
from stepfold.sdk.names import STEPS_MAX, Names, TooManyStepsError
from stepfold.sdk.payload import decode_or_none, encode, encode_as, read, result_adapter, type_name
from stepfold.sdk.workflow import WorkflowDefinition

VALUES = (StepSucceeded, SignalArrived, ChildReturned)
"""Outcomes that give the code a value."""
CLOSING_ROUNDS_MAX = 10
"""Times that code may swallow its cancellation when a run is dropped."""


class WorkflowInstance:
    def __init__(
        self,
        definition: WorkflowDefinition[Any, Any],
        *,
        run_id: str,
        app: str,
        tenant: str,
        event_name: str,
        event_id: str,
        event_data: bytes,
        started_at: int,
    ) -> None:
        self.definition = definition
        self._event_data = event_data
        self._loop = new_run_loop(started_at, run_id, self._report)
        self._run = RunInfo(
            id=run_id,
            app=app,
            workflow=definition.name,
            tenant=tenant,
            attempt=0,
            event=Event(
                event_name or definition.name, id=event_id or None, data=decode_or_none(event_data)
            ),
            idempotency_key=run_id,
            logger=RunLogger({"run_id": run_id, "workflow": definition.name}),
        )
        self._loop.context.run(CURRENT.set, Scope(self._run, self))
        self._main: asyncio.Task[Any] | None = None
        self._asked: dict[str, _Asked] = {}
        self._unclaimed: dict[str, Outcome] = {}
        self._names = Names()
        self._calls: list[Call] = []
        self._abandoned: list[str] = []
        self._end: End | None = None
        self._cancel_reason: str | None = None
        self._drawn = 0

    # For the engine

    def activate(self, outcome: Outcome | None, *, replaying: bool) -> Completion:
        """None is the first activation. After one with an `end`, the instance is to be closed."""
        self._run.logger.is_muted = replaying
        self._calls, self._abandoned = [], []
        timers: dict[str, int] = {}
        try:
            self._loop.run(self._start if outcome is None else partial(self._hand_over, outcome))
            self._end = self._end or self._ending()
            if self._end is not None:
                self._loop.report_unseen()
            timers = self._loop.pending_timers()
        except BaseException as error:  # noqa: BLE001 - SystemExit of a task and all else is its end
            self._end = self._end or _errored(error)
        return Completion(
            calls=() if self._end else tuple(self._calls),
            abandoned=tuple(self._abandoned),
            timers=timers,
            end=self._end,
        )

    def step_context(self, step: str, attempt: int) -> contextvars.Context:
        """The context in which an attempt runs: `current_run()` knows it."""
        context = contextvars.Context()
        context.run(CURRENT.set, Scope(partial(self._run.in_step, step, attempt), None))
        return context

    def refusal_of(self, wait_id: str, payload: bytes) -> str | None:
        """Why a signal's payload is not what the open wait declares; None: it is, or unknown."""
        asked = self._asked.get(wait_id)
        if asked is None or asked.adapter is None:
            return None
        try:
            read(asked.adapter, payload)
        except PayloadError as error:
            return f"the payload is not what {wait_id!r} waits for: {error}"
        return None

    def close(self) -> None:
        """Drop the code where it stands; its `finally` blocks run, but get nothing any more."""
        self._run.logger.is_muted = True
        self._end = self._end or Cancelled(reason="")
        for _ in range(CLOSING_ROUNDS_MAX):
            try:
                self._loop.run(self._give_up_tasks)
            except BaseException as error:  # noqa: BLE001 - what dropped code raises concerns nobody
                if isinstance(error, EndlessLoopError):
                    break  # it would spin in each round
            if not self._loop.living_tasks():
                break
        for task in self._loop.living_tasks():
            self._drop(task)
        if self._main is not None and self._main.done() and not self._main.cancelled():
            self._main.exception()  # looked at, so that asyncio does not complain
        self._loop.close()

    # For workflow code, through `step`

    def call_step(
        self,
        name: str,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        *,
        retry: Retry | None,
        timeout_ms: int | None,
        key: str | None,
        is_declared: bool,
    ) -> asyncio.Future[Any]:
        """is_declared: the name is that of a function with @step, and no other may have it."""
        self._names.check_function(name, function, is_declared)
        adapter = result_adapter(function)
        step = self._names.identity(name, key)
        call = StepCall(
            step=step,
            function=self.definition.stand_ins.get(name, function),
            args=args,
            kwargs=kwargs,
            retry=retry or self.definition.retry,
            timeout_ms=timeout_ms,
            encode_input=lambda: encode(
                {"args": args, "kwargs": kwargs}, f"the input of step {step!r}"
            ),
            encode_result=lambda value: encode_as(adapter, value, f"the result of step {step!r}"),
        )
        return self._ask(step, adapter, call)

    def call_sleep(self, name: str, due: int) -> asyncio.Future[Any]:
        return self.call(name, None, lambda timer_id: SleepCall(timer_id=timer_id, due=due))

    def call_signal(
        self, name: str, adapter: TypeAdapter[Any], timeout_ms: int | None
    ) -> asyncio.Future[Any]:
        expires_at = 0 if timeout_ms is None else self.now_ms() + timeout_ms
        return self.call(
            name,
            adapter,
            lambda wait_id: SignalCall(wait_id=wait_id, name=name, expires_at=expires_at),
        )

    def call(
        self, name: str, adapter: TypeAdapter[Any] | None, call_of: Callable[[str], Call]
    ) -> asyncio.Future[Any]:
        """call_of: makes the call when its identity is known."""
        identity = self._names.identity(name, None)
        return self._ask(identity, adapter, call_of(identity))

    def now_ms(self) -> int:
        return round(self._loop.time() * 1_000)

    def now(self) -> datetime:
        return datetime.fromtimestamp(self._loop.time(), UTC)

    def uuid(self) -> uuid.UUID:
        return uuid.UUID(bytes=self._draw()[:16], version=4)

    def random(self) -> random.Random:
        return random.Random(self._draw())

    # Inside

    def _draw(self) -> bytes:
        self._drawn += 1
        return sha256(f"{self._run.id}:{self._drawn}".encode()).digest()

    def _start(self) -> None:
        try:
            arguments = self.definition.arguments(self._run.event, self._event_data)
        except PayloadError as error:
            message = f"invalid input of workflow {self.definition.name!r}: {error}"
            self._end = Errored(error_type="InvalidInput", error_message=message, error_stack="")
            return
        work = _caught(self.definition.function(*arguments))
        self._main = self._loop.create_task(work, name=self._run.id, context=self._loop.context)

    def _ask(
        self, identity: str, adapter: TypeAdapter[Any] | None, call: Call
    ) -> asyncio.Future[Any]:
        future = self._loop.create_future()
        if len(self._names) > STEPS_MAX:
            # Not raised: a loop that catches everything would go on calling for ever.
            self._end = self._end or _errored(TooManyStepsError())
        if self._end is not None:
            return future  # of a run that is over: it is never done
        self._asked[identity] = _Asked(future, type(call), adapter)
        outcome = self._unclaimed.pop(identity, None)
        if outcome is not None:
            self._answer(identity, outcome)
            return future
        self._calls.append(call)
        future.add_done_callback(lambda done: self._gave_up(identity, done))
        return future

    def _gave_up(self, identity: str, future: asyncio.Future[Any]) -> None:
        if future.cancelled() and self._asked.pop(identity, None) is not None:
            self._abandoned.append(identity)

    def _give_up_tasks(self) -> None:
        for task in self._loop.living_tasks():
            task.cancel()
        self._loop.close_dropped()

    def _drop(self, task: asyncio.Task[Any]) -> None:
        """It swallows cancellation; closed here, it does not run on in a collector's hands."""
        pending: Any = task
        pending._log_destroy_pending = False
        with contextlib.suppress(BaseException):
            self._loop.run(partial(self._loop.context.copy().run, pending.get_coro().close))

    def _hand_over(self, outcome: Outcome) -> None:
        self._loop.advance_to(outcome.at)
        match outcome:
            case CancelAsked(reason=reason):
                self._cancel_reason = reason
                if self._main is not None:
                    self._main.cancel()
            case TimerElapsed(timer_id=timer_id) if is_loop_timer(timer_id):
                self._loop.fire_earliest(outcome.at)
            case StepSucceeded(step=identity) | StepErrored(step=identity):
                self._answer(identity, outcome)
            case ChildReturned(step=identity) | ChildErrored(step=identity):
                self._answer(identity, outcome)
            case SignalArrived(wait_id=identity) | WaitTimedOut(wait_id=identity):
                self._answer(identity, outcome)
            case TimerElapsed(timer_id=identity):
                self._answer(identity, outcome)

    def _answer(self, identity: str, outcome: Outcome) -> None:
        asked = self._asked.pop(identity, None)
        if asked is None:
            self._unclaimed[identity] = outcome
        elif asked.future.done():
            return
        elif asked.kind not in ANSWERS[type(outcome)]:
            was, now = WORDS[ANSWERS[type(outcome)][0]], WORDS[asked.kind]
            self._park(identity, f"{identity!r} was {was} and is {now} in the code now")
        elif isinstance(outcome, StepErrored):
            asked.future.set_exception(
                StepFailed(
                    outcome.step,
                    outcome.attempts,
                    outcome.error_type,
                    outcome.error_message,
                    outcome.error_stack,
                )
            )
        elif isinstance(outcome, ChildErrored):
            asked.future.set_exception(
                StepFailed(outcome.step, 1, outcome.error_type, outcome.error_message)
            )
        elif isinstance(outcome, VALUES) and asked.adapter is not None:
            self._answer_value(identity, asked.future, asked.adapter, outcome.payload)
        else:
            asked.future.set_result(None)

    def _answer_value(
        self,
        identity: str,
        future: asyncio.Future[Any],
        adapter: TypeAdapter[Any],
        payload: bytes,
    ) -> None:
        try:
            value = read(adapter, payload)
        except PayloadError as error:
            self._park(
                identity,
                f"the recorded result of {identity!r} is not what the code declares now, "
                f"{type_name(adapter)}: {error}",
            )
            return
        future.set_result(value)

    def _park(self, identity: str, difference: str) -> None:
        """An end, not an exception: the author's code must not catch it and take another branch."""
        message = f"{difference}; deploy code that takes what is recorded, then resume the run"
        self._end = self._end or Parked(step=identity, message=bounded(message))

    def _ending(self) -> End | None:
        if self._main is None or not self._main.done():
            return None
        error: BaseException | None
        value, error = self._main.result()
        if error is None:
            return self._completed(value)
        if isinstance(error, asyncio.CancelledError) and self._cancel_reason is not None:
            return Cancelled(reason=self._cancel_reason)
        return _errored(error)

    def _completed(self, value: Any) -> End:
        what = f"the result of workflow {self.definition.name!r}"
        try:
            return Completed(payload=encode_as(self.definition.result_adapter, value, what))
        except PayloadError as error:
            return _errored(error)

    def _report(self, context: dict[str, Any]) -> None:
        """What asyncio tells of errors that nobody awaits."""
        error = context.get("exception")
        if error is not None:
            self._run.logger.error(
                "workflow code failed where nothing awaits it",
                exc_info=error,
                extra={"what": context.get("message", "")},
            )


class _Asked(NamedTuple):
    """A call that the code awaits."""

    future: asyncio.Future[Any]
    kind: type[Call]
    adapter: TypeAdapter[Any] | None


async def _caught(work: Coroutine[Any, Any, Any]) -> tuple[Any, BaseException | None]:
    """Value or error: asyncio lets SystemExit and KeyboardInterrupt fly out of its loops."""
    try:
        return await work, None
    except BaseException as error:  # noqa: BLE001 - whatever it is, it is the run's end
        return None, error


def _errored(error: BaseException) -> Errored:
    failure = failure_of(error)
    return Errored(
        error_type=failure.error_type, error_message=failure.message, error_stack=failure.stack
    )
