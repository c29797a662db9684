"""Errors as text that an event can hold, whatever was raised.

An error's own `__str__` may fail, its message may hold what UTF-8 cannot, and a report may
have megabytes. An event that cannot be written would stop more than the run it is about.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable
from typing import NamedTuple

ERROR_TEXT_MAX = 16_000
"""Characters of a message or a stack that are recorded; the rest is cut, visibly."""
NAME_MAX = 200
STACK_FRAMES_MAX = 20
"""The innermost frames of a stack that are recorded."""


class Failure(NamedTuple):
    error_type: str
    message: str
    stack: str


def told(error: BaseException) -> Failure:
    """Never raises."""
    name = bounded(type(error).__name__, NAME_MAX)
    return Failure(
        error_type=name,
        message=_text(lambda: str(error), f"({name}, whose text cannot be had)"),
        stack=_text(
            lambda: "".join(traceback.format_exception(error, limit=-STACK_FRAMES_MAX)), ""
        ),
    )


def bounded(text: str, length_max: int = ERROR_TEXT_MAX) -> str:
    """The text, cut visibly, with what UTF-8 cannot hold written out."""
    cut = len(text) - length_max
    kept = text if cut <= 0 else f"{text[:length_max]}… ({cut} more characters cut)"
    return kept.encode("utf-8", "backslashreplace").decode()


def _text(make: Callable[[], str], otherwise: str) -> str:
    try:
        return bounded(make())
    except BaseException:  # noqa: BLE001 - it is the author's code that failed, and says no more
        return otherwise
