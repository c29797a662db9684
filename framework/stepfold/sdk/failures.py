"""Errors of authors' code as text that an event can hold.

Whatever was raised, this does not raise: an error's own `__str__` may fail, a message may
hold what UTF-8 cannot, and a validation report may have megabytes.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable
from typing import NamedTuple

from pydantic import ValidationError

ERROR_TEXT_MAX = 16_000
"""Characters of a message or a stack that are recorded; the rest is cut, visibly."""
STACK_FRAMES_MAX = 20
"""The innermost frames of a stack that are recorded."""
PROBLEMS_MAX = 10
"""Places of a validation report that are named one by one."""
VALUE_TEXT_MAX = 200
"""Characters of a value that a message shows."""


class Failure(NamedTuple):
    """An error as events hold it."""

    error_type: str
    message: str
    stack: str


def failure_of(error: BaseException) -> Failure:
    """Any error, KeyboardInterrupt and the like included."""
    name = bounded(type(error).__name__, VALUE_TEXT_MAX)
    message = _text_from(lambda: str(error), f"({name} whose text cannot be had)")
    return Failure(
        error_type=name,
        message=message or f"{name} was raised without a message",
        stack=_text_from(
            lambda: "".join(traceback.format_exception(error, limit=-STACK_FRAMES_MAX)), ""
        ),
    )


def bounded(text: str, length_max: int = ERROR_TEXT_MAX) -> str:
    """The text, cut visibly at its bound, with what UTF-8 cannot hold written out."""
    cut = len(text) - length_max
    kept = text if cut <= 0 else f"{text[:length_max]}… ({cut} more characters cut)"
    return kept.encode("utf-8", "backslashreplace").decode()


def problems_of(error: ValidationError) -> str:
    """What does not fit, place by place; pydantic's own report grows with the value."""
    problems = error.errors(include_url=False, include_context=False)
    told = [
        f"{_place(problem['loc'])}{problem['msg']}, got {shown(problem['input'])}"
        for problem in problems[:PROBLEMS_MAX]
    ]
    if len(problems) > PROBLEMS_MAX:
        told.append(f"and {len(problems) - PROBLEMS_MAX} more")
    return bounded("; ".join(told))


def shown(value: object) -> str:
    """A value as a message shows it: short."""
    return _text_from(lambda: repr(value), f"a {type(value).__name__}", VALUE_TEXT_MAX)


def _place(location: tuple[int | str, ...]) -> str:
    return f"at {'.'.join(map(str, location))}: " if location else ""


def _text_from(make: Callable[[], str], otherwise: str, length_max: int = ERROR_TEXT_MAX) -> str:
    try:
        return bounded(make(), length_max)
    except BaseException:  # noqa: BLE001 - it is the author's code that failed, not this
        return otherwise
