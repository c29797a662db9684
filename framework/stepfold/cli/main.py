"""The entry of the `stepfold` command: errors become one message and an exit code.

What a user did wrong is never a traceback; what we did wrong is one. Commands are
imported by a function, so that a Ctrl-C while they are is no traceback either.
"""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType

from stepfold.cli.exits import INTERRUPT


def main() -> None:
    """Run the command that the arguments name, and exit."""
    before = signal.getsignal(signal.SIGINT)
    if before is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, _leave)
    from stepfold.cli.commands import run

    signal.signal(signal.SIGINT, before)
    try:
        code = run()
    except KeyboardInterrupt:
        code = INTERRUPT
    # Nothing that a library still does while Python ends is worth a traceback.
    signal.signal(signal.SIGINT, before if before is signal.SIG_IGN else _leave)
    sys.exit(code)


def _leave(number: int, frame: FrameType | None) -> None:
    os._exit(INTERRUPT)
