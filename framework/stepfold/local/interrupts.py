"""Keeping Ctrl-C out of the few lines that must not be cut in two."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Generator
from types import FrameType


@contextlib.contextmanager
def held_back(number: signal.Signals) -> Generator[None]:
    """A signal that comes meanwhile has its effect at the end; for the main thread alone."""
    if threading.current_thread() is not threading.main_thread():
        yield  # handlers run in the main thread only, and cut nothing here
        return
    came: list[FrameType | None] = []
    before = signal.signal(number, lambda _, frame: came.append(frame))
    try:
        yield
    finally:
        signal.signal(number, before)
        if came:
            signal.raise_signal(number)
