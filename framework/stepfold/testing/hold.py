"""A stand-in for a step that waits until the test says how the step ends."""

from __future__ import annotations

import asyncio
from typing import Any


class Hold:
    """Attempts of the step wait here: to crash, cancel or let time pass in the middle of one."""

    def __init__(self) -> None:
        self._held: list[asyncio.Future[Any]] = []
        self.calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = []
        """The arguments of each attempt so far."""

    @property
    def waiting(self) -> int:
        """Attempts that wait now."""
        return len(self._held)

    async def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.calls.append((args, kwargs))
        held: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._held.append(held)
        try:
            return await held
        finally:
            if held in self._held:
                self._held.remove(held)

    def release(self, value: Any = None) -> None:
        """The attempt that has waited longest returns this value."""
        self._oldest().set_result(value)

    def fail(self, error: Exception) -> None:
        """The attempt that has waited longest raises this error."""
        self._oldest().set_exception(error)

    def _oldest(self) -> asyncio.Future[Any]:
        if not self._held:
            raise RuntimeError("no attempt waits here; look at `waiting` first")
        return self._held.pop(0)
