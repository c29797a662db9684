"""A workflow's code in memory: recorded outcomes in, step calls out.

`activate` hands one outcome to the code, lets it run until it blocks, and returns what
it then wants. It never raises: whatever the author's code does becomes the run's end.
The same code serves the live run and the replay; an outcome whose call is not made yet
(steps were inserted or moved since) is kept, and answers the call when it is made.
"""

from __future__ import annotations

import asyncio
import contextvars
import random
import traceback
import uuid
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

from pydantic import TypeAdapter, ValidationError

from stepfold.core.errors import PayloadError, StepFailed, StepfoldError
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
from stepfold.sdk.loop import new_run_loop
from stepfold.sdk.payload import decode, encode, encode_as, result_adapter
from stepfold.sdk.workflow import WorkflowDefinition

STEPS_MAX = 10_000
"""Steps, sleeps and waits of one run."""
STACK_FRAMES_MAX = 20


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
        self._loop = new_run_loop(started_at)
        self._run = RunInfo(
            id=run_id,
            app=app,
            workflow=definition.name,
            tenant=tenant,
            attempt=0,
            event=Event(
                event_name or definition.name, id=event_id or None, data=_lenient(event_data)
            ),
            idempotency_key=run_id,
            logger=RunLogger({"run_id": run_id, "workflow": definition.name}),
        )
        self._main: asyncio.Task[Any] | None = None
        self._waiting: dict[str, asyncio.Future[Any]] = {}
        self._adapters: dict[str, TypeAdapter[Any]] = {}
        self._unclaimed: dict[str, Outcome] = {}
        self._used: dict[str, int] = {}
        self._identities: set[str] = set()
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
        try:
            if outcome is None:
                self._start()
            else:
                self._loop.advance_to(outcome.at)
                self._hand_over(outcome)
            self._loop.run_until_blocked()
        except RuntimeError as error:
            self._end = _errored(error)
        return Completion(
            calls=tuple(self._calls),
            abandoned=tuple(self._abandoned),
            timers=self._loop.pending_timers(),
            end=self._ending(),
        )

    def step_context(self, step: str, attempt: int) -> contextvars.Context:
        """The context in which an attempt runs: `current_run()` knows it."""
        run = self._run
        info = RunInfo(
            id=run.id,
            app=run.app,
            workflow=run.workflow,
            tenant=run.tenant,
            attempt=attempt,
            event=run.event,
            idempotency_key=f"{run.id}:{step}",
            logger=RunLogger(
                {"run_id": run.id, "workflow": run.workflow, "step": step, "attempt": attempt}
            ),
        )
        context = contextvars.Context()
        context.run(CURRENT.set, Scope(info, None))
        return context

    def refusal_of(self, wait_id: str, payload: bytes) -> str | None:
        """Why a signal's payload is not what the open wait declares; None: it is, or unknown."""
        adapter = self._adapters.get(wait_id)
        if adapter is None:
            return None
        try:
            adapter.validate_json(payload or b"null")
        except ValidationError as error:
            return f"the payload is not what {wait_id!r} waits for: {error}"
        return None

    def close(self) -> None:
        """Drop the code where it stands; its `finally` blocks run, but get nothing any more."""
        tasks = self._loop.living_tasks()
        self._end = self._end or Cancelled(reason="")
        for _ in range(CLOSING_ROUNDS_MAX):
            if not tasks:
                break
            for task in tasks:
                task.cancel()
            try:
                self._loop.run_until_blocked()
            except RuntimeError:
                break
            tasks = [t for t in tasks if not t.done()]
        for task in tasks:
            task._log_destroy_pending = False  # type: ignore[attr-defined]
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
    ) -> asyncio.Future[Any]:
        step = self._identify(name, key)
        adapter = result_adapter(function)
        self._adapters[step] = adapter
        call = StepCall(
            step=step,
            function=function,
            args=args,
            kwargs=kwargs,
            retry=retry or self.definition.retry,
            timeout_ms=timeout_ms,
            encode_input=lambda: encode(
                {"args": args, "kwargs": kwargs}, f"the input of step {step!r}"
            ),
            encode_result=lambda value: encode_as(adapter, value, f"the result of step {step!r}"),
        )
        return self._ask(step, call)

    def call_sleep(self, name: str, due: int) -> asyncio.Future[Any]:
        timer_id = self._identify(name, None)
        return self._ask(timer_id, SleepCall(timer_id=timer_id, due=due))

    def call_signal(
        self, name: str, adapter: TypeAdapter[Any], timeout_ms: int | None
    ) -> asyncio.Future[Any]:
        wait_id = self._identify(name, None)
        self._adapters[wait_id] = adapter
        expires_at = 0 if timeout_ms is None else self.now_ms() + timeout_ms
        return self._ask(wait_id, SignalCall(wait_id=wait_id, name=name, expires_at=expires_at))

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
        definition = self.definition
        arguments: tuple[Any, ...] = ()
        if definition.takes_input:
            try:
                data = definition.input_adapter.validate_json(self._event_data or b"null")
            except ValidationError as error:
                self._end = Errored(
                    error_type="ValidationError",
                    error_message=f"invalid input of workflow {definition.name!r}: {error}",
                    error_stack="",
                )
                return
            arguments = (data,)
            if definition.takes_event:
                arguments = (self._run.event.model_copy(update={"data": data}),)
        context = contextvars.Context()
        context.run(CURRENT.set, Scope(self._run, self))
        work = _caught(definition.function(*arguments))
        self._main = self._loop.create_task(work, name=self._run.id, context=context)

    def _identify(self, name: str, key: str | None) -> str:
        """The identity of the call: its name and how often it was used, or its key."""
        if key is not None:
            identity = f"{name}[{key}]"
            if identity in self._identities:
                raise ValueError(f"step {name!r} was called twice with key {key!r} in one run")
        else:
            self._used[name] = count = self._used.get(name, 0) + 1
            identity = name if count == 1 else f"{name}#{count}"
        if len(self._identities) >= STEPS_MAX:
            raise TooManyStepsError
        self._identities.add(identity)
        return identity

    def _ask(self, identity: str, call: Call) -> asyncio.Future[Any]:
        future = self._loop.create_future()
        outcome = self._unclaimed.pop(identity, None)
        self._waiting[identity] = future
        if outcome is not None:
            self._answer(identity, outcome)
            return future
        self._calls.append(call)
        future.add_done_callback(lambda done: self._gave_up(identity, done))
        return future

    def _gave_up(self, identity: str, future: asyncio.Future[Any]) -> None:
        if future.cancelled() and self._waiting.pop(identity, None) is not None:
            self._abandoned.append(identity)

    def _hand_over(self, outcome: Outcome) -> None:
        match outcome:
            case CancelAsked(reason=reason):
                self._cancel_reason = reason
                if self._main is not None:
                    self._main.cancel()
            case TimerElapsed(timer_id=timer_id):
                if not self._loop.fire(timer_id):
                    self._answer(timer_id, outcome)
            case StepSucceeded(step=identity) | StepErrored(step=identity):
                self._answer(identity, outcome)
            case SignalArrived(wait_id=identity) | WaitTimedOut(wait_id=identity):
                self._answer(identity, outcome)
            case ChildReturned(step=identity) | ChildErrored(step=identity):
                self._answer(identity, outcome)

    def _answer(self, identity: str, outcome: Outcome) -> None:
        future = self._waiting.pop(identity, None)
        if future is None:
            self._unclaimed[identity] = outcome
            return
        if future.done():
            return
        match outcome:
            case StepErrored():
                future.set_exception(
                    StepFailed(
                        outcome.step,
                        outcome.attempts,
                        outcome.error_type,
                        outcome.error_message,
                        outcome.error_stack,
                    )
                )
            case StepSucceeded() | SignalArrived():
                self._answer_value(identity, future, outcome.payload)
            case _:
                future.set_result(None)

    def _answer_value(self, identity: str, future: asyncio.Future[Any], payload: bytes) -> None:
        try:
            value = self._adapters.pop(identity).validate_json(payload or b"null")
        except ValidationError as error:
            # The author's code must not be able to catch this and take another branch.
            self._end = Parked(
                step=identity,
                message=f"the recorded result of {identity!r} is not of the type that the code"
                f" declares now: {error}; deploy code that takes it, then resume the run",
            )
            return
        future.set_result(value)

    def _ending(self) -> End | None:
        if self._end is not None or self._main is None or not self._main.done():
            return self._end
        error: BaseException | None = self._main.result()[1]
        if error is None:
            return self._completed(self._main.result()[0])
        if isinstance(error, asyncio.CancelledError) and self._cancel_reason is not None:
            return Cancelled(reason=self._cancel_reason)
        return _errored(error)

    def _completed(self, value: Any) -> End:
        what = f"the result of workflow {self.definition.name!r}"
        try:
            return Completed(payload=encode_as(self.definition.result_adapter, value, what))
        except PayloadError as error:
            return _errored(error)


CLOSING_ROUNDS_MAX = 10
"""Times that code may swallow its cancellation when a run is dropped."""


class TooManyStepsError(StepfoldError):
    """A run made more calls than one run may."""

    def __init__(self) -> None:
        super().__init__(
            f"too_many_steps: the run made {STEPS_MAX} calls (steps, sleeps and waits), the limit;"
            " split the work into several runs"
        )


async def _caught(work: Coroutine[Any, Any, Any]) -> tuple[Any, BaseException | None]:
    """Value or error: asyncio lets SystemExit and KeyboardInterrupt fly out of its loops."""
    try:
        return await work, None
    except BaseException as error:  # noqa: BLE001 - whatever it is, it is the run's end
        return None, error


def _errored(error: BaseException) -> Errored:
    return Errored(
        error_type=type(error).__name__,
        error_message=str(error) or f"{type(error).__name__} was raised by the workflow",
        error_stack="".join(traceback.format_exception(error, limit=-STACK_FRAMES_MAX)),
    )


def _lenient(data: bytes) -> Any:
    try:
        return decode(data)
    except PayloadError:
        return None
