"""A run in a sandbox: what a test tells it, and what a test sees of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from stepfold.core import commands as c
from stepfold.core import events as e
from stepfold.core.errors import RunCancelled, RunFailed
from stepfold.sdk.payload import decode, encode
from stepfold.sdk.workflow import WorkflowDefinition
from stepfold.testing.errors import RunNotOverError
from stepfold.testing.story import StepRecord, status_of, steps_of, waits_of

if TYPE_CHECKING:
    from stepfold.testing.sandbox import Sandbox

Result = TypeVar("Result")
WHO = "test"
ENDS = (e.RunCompleted, e.RunFailed, e.RunCancelled)


class SandboxRun(Generic[Result]):
    def __init__(
        self, sandbox: Sandbox, run_id: str, definition: WorkflowDefinition[Any, Result] | None
    ) -> None:
        self.id = run_id
        self._sandbox = sandbox
        self._definition = definition

    @property
    def workflow(self) -> str:
        return self._sandbox.story.run(self.id).workflow

    @property
    def status(self) -> str:
        """running, sleeping, waiting, backoff, paused, parked, completed, failed or cancelled."""
        return status_of(self._sandbox.story.run(self.id))

    @property
    def steps(self) -> dict[str, StepRecord]:
        """By id (`search`, `search#2`), in the order of their first attempts."""
        return steps_of(self._sandbox.story.of(self.id))

    @property
    def events(self) -> list[e.Event]:
        """The run's events, as they are in the log."""
        return [told.event for told in self._sandbox.story.of(self.id)]

    @property
    def waits(self) -> list[str]:
        """What an open run waits for, and what a test does about it; empty when it is over."""
        story = self._sandbox.story
        run = story.run(self.id)
        if run.is_terminal:
            return []
        parked = [event.message for event in self.events if isinstance(event, e.RunParked)]
        return waits_of(run, self._sandbox.now_ms, parked[-1] if parked else "")

    async def result(self) -> Result:
        """What the workflow returned. Raises RunFailed, RunCancelled, RunNotOverError.

        In a sandbox that skips time, time goes on until the run is over.
        """
        await self._sandbox.settle()
        while not self._is_over and self._sandbox.skips_time and await self._sandbox.skip():
            pass
        match next((event for event in self.events if isinstance(event, ENDS)), None):
            case e.RunCompleted(payload=payload):
                if self._definition is not None:
                    return self._definition.result_of(payload)
                return cast("Result", decode(payload))
            case e.RunFailed() as failed:
                raise RunFailed(self.id, failed.error_type, failed.error_message)
            case e.RunCancelled(reason=reason):
                raise RunCancelled(self.id, reason)
            case None:
                raise RunNotOverError(self.id, self.workflow, self.status, self.waits)

    async def signal(self, name: str, payload: object = None) -> None:
        """Raises SandboxError when the run does not take it."""
        number = self._sandbox.next_number()
        await self._sandbox.command(
            c.Signal(
                run_id=self.id,
                signal_id=f"signal-{number}",
                name=name,
                payload=encode(payload, f"the payload of signal {name!r}"),
                payload_encoding="json",
                key_id="",
            )
        )

    async def cancel(self, reason: str = "") -> None:
        await self._sandbox.command(c.Cancel(run_id=self.id, by=WHO, reason=reason))

    async def pause(self, reason: str = "") -> None:
        await self._sandbox.command(c.Pause(run_id=self.id, by=WHO, reason=reason))

    async def resume(self, reason: str = "") -> None:
        await self._sandbox.command(c.Resume(run_id=self.id, by=WHO, reason=reason))

    def __repr__(self) -> str:
        return f"SandboxRun({self.id!r}, {self.workflow!r}, {self.status!r})"

    @property
    def _is_over(self) -> bool:
        return self._sandbox.story.run(self.id).is_terminal
