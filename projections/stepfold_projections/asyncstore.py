"""A trace store used from an event loop: what blocks there runs in threads of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import ParamSpec, TypeVar

from stepfold_projections.store import TraceStore

P = ParamSpec("P")
R = TypeVar("R")

READ_THREADS = 4


class AsyncStore:
    """One thread writes, some others read."""

    def __init__(self, store: TraceStore) -> None:
        self.store = store
        self._writing = ThreadPoolExecutor(1, thread_name_prefix="store-write")
        self._reading = ThreadPoolExecutor(READ_THREADS, thread_name_prefix="store-read")

    async def write(self, call: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._writing, partial(call, *args, **kwargs))

    async def read(self, call: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._reading, partial(call, *args, **kwargs))

    def close(self) -> None:
        """Waits for the transaction that is under way."""
        self._writing.shutdown(wait=True, cancel_futures=True)
        self._reading.shutdown(wait=True, cancel_futures=True)
        self.store.close()
