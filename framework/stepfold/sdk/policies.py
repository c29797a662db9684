"""Checks of the policies that authors give: a wrong one is named where it is written."""

from __future__ import annotations

from stepfold.core.durations import Duration, to_milliseconds
from stepfold.core.errors import ConfigurationError
from stepfold.core.retry import Retry
from stepfold.sdk.failures import shown


def checked_duration(duration: Duration, where: str) -> int:
    """In milliseconds. Raises ConfigurationError for what is no duration."""
    try:
        return to_milliseconds(duration)
    except (TypeError, ValueError) as error:
        raise ConfigurationError(f"{where}: {error}") from error


def checked_timeout(timeout: Duration | None, where: str) -> int | None:
    """In milliseconds. Raises ConfigurationError for what is no duration, and for none at all."""
    if timeout is None:
        return None
    timeout_ms = checked_duration(timeout, f"timeout= of {where}")
    if timeout_ms == 0:
        raise ConfigurationError(f"timeout= of {where} must be more than 0, got {timeout!r}")
    return timeout_ms


def checked_retry(retry: object, where: str) -> Retry | None:
    if retry is None or isinstance(retry, Retry):
        return retry
    raise ConfigurationError(
        f"retry= of {where} takes Retry(...), got {shown(retry)}; write retry=Retry(attempts=5)"
    )
