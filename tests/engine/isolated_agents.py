"""An app whose steps a child process is asked to execute, by replay alone."""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from pydantic import BaseModel

from stepfold import App, Fatal, RetryAfter, current_run, step

STUCK_S = 60.0
PID_FILE = "pid"

app = App("stage")


class Question(BaseModel):
    text: str
    folder: str = ""
    timeout: str | None = None


class Answer(BaseModel):
    """What the step saw of its surroundings."""

    text: str
    pid: int
    attempt: int
    idempotency_key: str
    event_data: str


@app.workflow
async def answer(question: Question) -> str:
    """Its step is a closure over what an earlier step and a signal gave."""
    length = await step.run("measure", len, question.text)
    await step.sleep("pause", timedelta(milliseconds=1))
    suffix = await step.wait_for_signal("suffix", str)

    async def ask(extra: str) -> Answer:
        run = current_run()
        return Answer(
            text=f"{question.text}/{length}/{suffix}/{extra}",
            pid=os.getpid(),
            attempt=run.attempt,
            idempotency_key=run.idempotency_key,
            event_data=json.dumps(run.event.data),
        )

    both = await asyncio.gather(
        step.run("ask", ask, "first"), step.run("twice", lambda number: 2 * number, length)
    )
    return f"{both[0].text} {both[1]}"


async def _hang(pid_file: str) -> None:
    with open(pid_file, "w") as file:  # noqa: ASYNC230, PTH123 - as a hurried user would
        file.write(str(os.getpid()))
    try:
        await asyncio.sleep(STUCK_S)
    finally:
        with open(f"{pid_file}.cleaned", "w"):  # noqa: ASYNC230, PTH123 - the same
            pass


def _hang_deaf(pid_file: str) -> None:
    with open(pid_file, "w") as file:  # noqa: PTH123 - the same
        file.write(str(os.getpid()))
    threading.Event().wait(STUCK_S)


async def _block_loop() -> None:
    threading.Event().wait(STUCK_S)


def _exit_later() -> str:
    threading.Timer(0.2, os._exit, (9,)).start()
    return "left something behind"


def _eat() -> None:
    eaten: list[bytearray] = []
    while True:
        eaten.append(bytearray(16 * 1024 * 1024))


def _complain_and_die() -> None:
    print("the last words", file=sys.stderr, flush=True)  # noqa: T201 - evidence
    os.kill(os.getpid(), signal.SIGKILL)


def _raise(error: BaseException) -> None:
    raise error


def _spawn_and_die() -> None:
    """What it starts inherits its standard error, and would keep that open."""
    subprocess.Popen(["sleep", str(STUCK_S)])
    os._exit(5)


DEEDS: dict[str, tuple[Callable[..., Any], tuple[Any, ...]]] = {
    "segfault": (ctypes.string_at, (0,)),
    "killed": (_complain_and_die, ()),
    "eat": (_eat, ()),
    "fatal": (_raise, (Fatal("no way"),)),
    "retry after": (_raise, (RetryAfter("7s", "busy"),)),
    "block": (_block_loop, ()),
    "exit later": (_exit_later, ()),
    "spawn": (_spawn_and_die, ()),
    "pid": (os.getpid, ()),
}


@app.workflow
async def do(question: Question) -> None:
    """One step, which does what it is asked for."""
    if question.text == "hang":
        await step.run("do", _hang, question.folder, timeout=question.timeout)
    elif question.text == "hang deaf":
        await step.run("do", _hang_deaf, question.folder)
    else:
        function, arguments = DEEDS[question.text]
        await step.run("do", function, *arguments, timeout=question.timeout)
