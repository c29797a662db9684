"""What a sandbox raises of its own; the ends of runs are RunFailed and RunCancelled as ever."""

from __future__ import annotations

from collections.abc import Sequence

from stepfold.core.errors import StepfoldError


class SandboxError(StepfoldError):
    """The sandbox cannot go on, or was asked for what it cannot do."""


class RunNotOverError(StepfoldError):
    """The result of a run was asked for that waits; `waits` says for what, and what to do."""

    def __init__(self, run_id: str, workflow: str, status: str, waits: Sequence[str]) -> None:
        told = "".join(f"\n- {wait}" for wait in waits)
        super().__init__(
            f"the run of {workflow!r} ({run_id}) is {status}, not over; it waits for:{told}"
        )
        self.run_id = run_id
        self.status = status
        self.waits = tuple(waits)
