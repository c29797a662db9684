"""Tests of workflows: the real engine on a log in memory, with a clock that the test moves.

See docs/testing.md. A step's function needs none of this: outside of runs it is an
ordinary function.
"""

from stepfold.testing.errors import RunNotOverError, SandboxError
from stepfold.testing.hold import Hold
from stepfold.testing.run import SandboxRun
from stepfold.testing.sandbox import Sandbox
from stepfold.testing.story import AttemptRecord, StepRecord

__all__ = [
    "AttemptRecord",
    "Hold",
    "RunNotOverError",
    "Sandbox",
    "SandboxError",
    "SandboxRun",
    "StepRecord",
]
