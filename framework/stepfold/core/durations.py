"""Durations as authors write them: seconds, a timedelta, or text such as "250ms" and "10m".

Inside, a duration is a whole number of milliseconds: it is what the log stores, and
integers replay without rounding.
"""

from __future__ import annotations

import math
import re
from datetime import timedelta
from typing import TypeAlias

Duration: TypeAlias = int | float | str | timedelta

UNITS_MS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
DURATION_MAX_MS = 366 * UNITS_MS["d"]
"""A year and a day: the longest sleep, wait or delay."""

_TEXT = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")


def to_milliseconds(duration: Duration) -> int:
    """The duration in whole milliseconds, rounded up; at least 0, at most 366 days.

    Raises ValueError that names the value and the accepted forms.
    """
    if isinstance(duration, bool):
        raise _refusal(duration)
    if isinstance(duration, timedelta):
        milliseconds = duration / timedelta(milliseconds=1)
    elif isinstance(duration, str):
        match = _TEXT.fullmatch(duration.strip())
        if match is None:
            raise _refusal(duration)
        milliseconds = float(match[1]) * UNITS_MS[match[2]]
    else:
        milliseconds = duration * 1_000.0
    if not math.isfinite(milliseconds) or not 0 <= milliseconds <= DURATION_MAX_MS:
        raise ValueError(f"a duration must be between 0 and 366 days, got {duration!r}")
    return math.ceil(milliseconds)


def _refusal(duration: object) -> ValueError:
    return ValueError(
        f"not a duration: {duration!r}; use seconds, a timedelta, "
        'or text like "250ms", "2s", "10m", "24h", "7d"'
    )
