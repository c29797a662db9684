"""The `stepfold` command as its users run it: a process, its two streams and its exit code."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

IMPORT = "from stepfold.cli.main import main"
COMMAND = (sys.executable, "-c", f"{IMPORT}; main()")
TIMEOUT_S = 60.0
LOOK_S = 0.02
WIDE = "200"
"""Columns: what a test looks for must not be broken over lines."""


class Ended(NamedTuple):
    code: int
    out: str
    err: str


def run(*arguments: str, cwd: Path, env: Mapping[str, str] | None = None) -> Ended:
    done = subprocess.run(
        [*COMMAND, *arguments],
        cwd=cwd,
        env=environment(env),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    return Ended(done.returncode, done.stdout, done.stderr)


def begin(
    *arguments: str, cwd: Path, env: Mapping[str, str] | None = None
) -> subprocess.Popen[str]:
    """Started, and to be ended by the caller; in a process group of its own."""
    return _begin(*COMMAND, *arguments, cwd=cwd, env=env)


def interruptible(
    *arguments: str, cwd: Path, env: Mapping[str, str] | None = None
) -> subprocess.Popen[str]:
    """Begun as far as its own first line: before that a Ctrl-C is Python's business."""
    said = "import sys; print('begun', file=sys.stderr, flush=True); main()"
    program = _begin(sys.executable, "-c", f"{IMPORT}; {said}", *arguments, cwd=cwd, env=env)
    assert program.stderr is not None
    assert program.stderr.readline() == "begun\n"
    return program


def _begin(*command: str, cwd: Path, env: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command,
        cwd=cwd,
        env=environment(env),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # A test run in the background of a shell ignores Ctrl-C, and would pass that on.
        preexec_fn=_listen_to_interrupts,
    )


def _listen_to_interrupts() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def until(is_so: Callable[[], object], timeout_s: float = TIMEOUT_S) -> None:
    """Wait for a condition outside of this process."""
    deadline = time.monotonic() + timeout_s
    never = threading.Event()
    while not is_so():
        assert time.monotonic() < deadline, "it did not become so in time"
        never.wait(LOOK_S)


def environment(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """This process's, without settings that would change what is tested."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("STEPFOLD_")}
    return {**kept, "COLUMNS": WIDE, "NO_COLOR": "1", **(more or {})}
