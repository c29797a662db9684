"""Where code runs: in a workflow, in a step of one, or outside of any run.

A context variable says so, hence it holds across awaits, tasks and the threads of
plain-function steps.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, MutableMapping
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from stepfold.sdk.event import Event

if TYPE_CHECKING:
    from stepfold.sdk.activation import WorkflowInstance


class RunLogger(logging.LoggerAdapter[logging.Logger]):
    """Adds the run's ids to each line, and is silent while recorded code runs again."""

    def __init__(self, extra: dict[str, object]) -> None:
        super().__init__(logging.getLogger("stepfold.run"), extra)
        self.is_muted = False

    def isEnabledFor(self, level: int) -> bool:  # noqa: N802 - logging's name
        return not self.is_muted and super().isEnabledFor(level)

    def process(
        self, msg: Any, kwargs: MutableMapping[str, Any]
    ) -> tuple[Any, MutableMapping[str, Any]]:
        kwargs["extra"] = {**(self.extra or {}), **kwargs.get("extra", {})}
        return msg, kwargs


@dataclass(frozen=True, slots=True, kw_only=True)
class RunInfo:
    """What `current_run()` tells.

    attempt: number of the attempt inside a step, 0 in workflow code. idempotency_key:
    stable per run and step, whatever the attempt; hand it to tools that can use one.
    """

    id: str
    app: str
    workflow: str
    tenant: str
    attempt: int
    event: Event[Any]
    idempotency_key: str
    logger: RunLogger

    def in_step(self, step: str, attempt: int) -> RunInfo:
        """What an attempt of one of the run's steps sees."""
        ids: dict[str, object] = {
            "run_id": self.id,
            "workflow": self.workflow,
            "step": step,
            "attempt": attempt,
        }
        return replace(
            self,
            attempt=attempt,
            idempotency_key=f"{self.id}:{step}",
            logger=RunLogger(ids),
        )


class Scope:
    """instance is None inside a step. What `current_run()` tells there is made when asked for."""

    __slots__ = ("_make", "_run", "instance")

    def __init__(
        self, run: RunInfo | Callable[[], RunInfo], instance: WorkflowInstance | None
    ) -> None:
        self.instance = instance
        self._make = run if callable(run) else None
        self._run = None if callable(run) else run

    @property
    def run(self) -> RunInfo:
        if self._run is None:
            assert self._make is not None
            self._run = self._make()
        return self._run


CURRENT: ContextVar[Scope | None] = ContextVar("stepfold_scope", default=None)


def current_run() -> RunInfo:
    """The run that this code belongs to. Raises RuntimeError outside of one."""
    scope = CURRENT.get()
    if scope is None:
        raise RuntimeError(
            "current_run() was called outside of a run; call it in a workflow or step"
        )
    return scope.run


def current_instance() -> WorkflowInstance | None:
    """The workflow whose code this is; None inside a step and outside of runs."""
    scope = CURRENT.get()
    return None if scope is None else scope.instance


async def asked(ask: Callable[[], asyncio.Future[Any]]) -> Any:
    """Make a call, and wait for what answers it."""
    try:
        future = ask()
    except Exception:
        # Code that makes a wrong call again and again must be seen to spin, not hang the worker.
        await asyncio.sleep(0)
        raise
    return await future
