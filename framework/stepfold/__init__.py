"""stepfold: durable workflows for AI agents, event-sourced on Kafka.

The public API, and nothing else. The client is loaded when it is first named, so that
workflow modules do not load a Kafka client, nor clients more than they need.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stepfold.client import Client, Receipt, RunHandle
    from stepfold.core.errors import (
        DefinitionChanged,
        Fatal,
        NotBuiltError,
        RetryAfter,
        RunCancelled,
        RunFailed,
        StepFailed,
        StepfoldError,
    )
    from stepfold.core.retry import Retry
    from stepfold.sdk.app import App
    from stepfold.sdk.context import current_run
    from stepfold.sdk.event import Event
    from stepfold.sdk.limits import Concurrency
    from stepfold.sdk.step import step
    from stepfold.sdk.triggers import cron, event

__all__ = [
    "App",
    "Client",
    "Concurrency",
    "DefinitionChanged",
    "Event",
    "Fatal",
    "NotBuiltError",
    "Receipt",
    "Retry",
    "RetryAfter",
    "RunCancelled",
    "RunFailed",
    "RunHandle",
    "StepFailed",
    "StepfoldError",
    "cron",
    "current_run",
    "event",
    "step",
]

_HOMES = {
    "App": "stepfold.sdk.app",
    "Client": "stepfold.client",
    "Concurrency": "stepfold.sdk.limits",
    "DefinitionChanged": "stepfold.core.errors",
    "Event": "stepfold.sdk.event",
    "Fatal": "stepfold.core.errors",
    "NotBuiltError": "stepfold.core.errors",
    "Receipt": "stepfold.client",
    "Retry": "stepfold.core.retry",
    "RetryAfter": "stepfold.core.errors",
    "RunCancelled": "stepfold.core.errors",
    "RunFailed": "stepfold.core.errors",
    "RunHandle": "stepfold.client",
    "StepFailed": "stepfold.core.errors",
    "StepfoldError": "stepfold.core.errors",
    "cron": "stepfold.sdk.triggers",
    "current_run": "stepfold.sdk.context",
    "event": "stepfold.sdk.triggers",
    "step": "stepfold.sdk.step",
}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"stepfold has no {name!r}; it has {', '.join(__all__)}")
    value = getattr(importlib.import_module(home), name)
    globals()[name] = value
    return value
