"""The `stepfold` command as its users run it: a process, its two streams and its exit code."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

COMMAND = (sys.executable, "-c", "from stepfold.cli.main import main; main()")
TIMEOUT_S = 60.0
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
    return subprocess.Popen(
        [*COMMAND, *arguments],
        cwd=cwd,
        env=environment(env),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def environment(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """This process's, without settings that would change what is tested."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("STEPFOLD_")}
    return {**kept, "COLUMNS": WIDE, "NO_COLOR": "1", **(more or {})}
