"""Calls that come from outside into a shard's leader, and what they may not do: be passed over.

A callback that raises would only be logged by the event loop, and the record or result
that it was about would be gone. So whoever leads a shard wraps each way in: what raises
there, against all expectation, faults the shard, which a person then sees.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec

P = ParamSpec("P")


class Guard:
    def __init__(self, on_error: Callable[[Exception], None]) -> None:
        self._on_error = on_error

    def __call__(self, work: Callable[P, None]) -> Callable[P, None]:
        def guarded(*args: P.args, **kwargs: P.kwargs) -> None:
            try:
                work(*args, **kwargs)
            except Exception as error:  # noqa: BLE001 - it is handed on, with all it knows
                self._on_error(error)

        return guarded
