"""The worker's handle of a child process that runs attempts, one at a time and alone.

A thread waits for the child while it has an attempt, because only wait4 tells how much
memory a process had; and the kernel ends the child when the thread that started it ends.
Commands go to its standard input, and what became of them comes on a pipe of its own:
standard output and standard error belong to the user's code.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import selectors
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from stepfold.core.outcomes import Outcome
from stepfold.engine.execution import Died, Result, TimedOut
from stepfold.sdk.failures import failure_of

PROGRAM = "stepfold.engine.isolated_main"
START_TIMEOUT_S = 60.0
"""For the interpreter, the import of the user's modules and the replay."""
STOP_GRACE_S = 5.0
"""From a friendly end, or the attempt's timeout, to SIGKILL."""
EXIT_OUT_OF_MEMORY = 71
"""Of a child whose step met the bound on its memory, for which Python raises MemoryError."""
STDERR_SHOWN_BYTES = 4_000
LOOK_S = 0.1
"""How often a waiting thread looks whether it is to stop."""
CHUNK_BYTES = 64 * 1024
HAS_BEGUN = b"B"
"""What the child sends when it calls the step's function; the result follows, as a frame."""
LENGTH = struct.Struct(">Q")
"""Before each frame, which is a pickle: both ends are of this program."""
NOT_ENDED = "it did not end when it was told to"
TIMED_OUT = "it overran its timeout, and did not let it be kept"


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """What a child is told first, for all its life."""

    target: str
    directory: str
    memory_max_mb: int | None
    parent_pid: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """What a child has to know to get to the step's call, and what bounds it there."""

    run_id: str
    app: str
    workflow: str
    tenant: str
    event_name: str
    event_id: str
    event_data: bytes
    started_at: int
    outcomes: Sequence[Outcome]
    step: str
    attempt: int
    timeout_ms: int | None


def frame(content: object) -> bytes:
    pickled = pickle.dumps(content)
    return LENGTH.pack(len(pickled)) + pickled


class _Deadline(NamedTuple):
    at: float
    reason: str


class _Exit(NamedTuple):
    code: int
    peak_mb: int


class IsolatedProcess:
    """All but `stop` belongs to the thread that calls `execute` or `end`.

    served: attempts that it has had. What it dies of may be something that one of them left.
    """

    def __init__(self, setup: Setup) -> None:
        self.served = 0
        self._setup = setup
        self._process: subprocess.Popen[bytes] | None = None
        self._pipe = self._stdin = self._errors = -1
        self._unsent = bytearray()
        self._received = bytearray()
        self._stderr = bytearray()
        self._timeout_ms: int | None = None
        self._is_unwanted = False
        self._is_told = False
        self._deadline: _Deadline | None = None
        self._killed_for = ""

    def stop(self) -> None:
        """Nobody wants the result any more; the thread ends the process, kindly at first."""
        self._is_unwanted = True

    def execute(self, replay: Replay) -> Result | Died:
        self.served += 1
        self._timeout_ms = replay.timeout_ms
        self._received.clear()
        self._stderr.clear()
        self._set_deadline(START_TIMEOUT_S, f"it did not begin within {START_TIMEOUT_S:.0f} s")
        try:
            if self._process is None:
                self._start()
            self._unsent += frame(replay)
            ended = self._watch(until_result=True)
        except Exception as error:  # noqa: BLE001 - no process to be had is no fault of the step
            name, message, _ = failure_of(error)
            return Died(f"no process could be had for it: {name}: {message}", is_proof=False)
        return self._result() or self._death(ended)

    def end(self) -> None:
        """It gets no further attempt."""
        if self._process is None or self._process.returncode is not None:
            return
        self._close_stdin()
        self._set_deadline(STOP_GRACE_S, NOT_ENDED)
        self._watch(until_result=False)

    def _start(self) -> None:
        self._pipe, childs_pipe = os.pipe()
        try:
            self._process = process = subprocess.Popen(
                [sys.executable, "-m", PROGRAM, str(childs_pipe)],
                stdin=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=0,
                pass_fds=(childs_pipe,),
                start_new_session=True,  # so that what the step starts is ended with it
            )
        finally:
            os.close(childs_pipe)
        assert process.stdin is not None
        assert process.stderr is not None
        self._stdin, self._errors = process.stdin.fileno(), process.stderr.fileno()
        for number in (self._stdin, self._errors, self._pipe):
            os.set_blocking(number, False)
        self._unsent += frame(self._setup)

    def _watch(self, *, until_result: bool) -> _Exit | None:
        """Until the process has ended; None: its result came first, and that was asked for."""
        process = self._process
        assert process is not None
        with selectors.DefaultSelector() as selector:
            selector.register(self._errors, selectors.EVENT_READ)
            selector.register(self._pipe, selectors.EVENT_READ)
            if self._unsent:
                selector.register(self._stdin, selectors.EVENT_WRITE)
            while True:
                for key, _ in selector.select(LOOK_S):
                    goes_on = self._send() if key.fd == self._stdin else self._read(key.fd)
                    if not goes_on:
                        selector.unregister(key.fd)
                if until_result and not self._is_unwanted and self._result() is not None:
                    return None
                ended = self._reap(process)
                if ended is not None:
                    return ended
                self._end_if_due(process.pid)

    def _reap(self, process: subprocess.Popen[bytes]) -> _Exit | None:
        """None as long as the process lives."""
        pid, status, usage = os.wait4(process.pid, os.WNOHANG)
        if not pid:
            return None
        # Popen must not wait for it again: the number may be somebody else's by then.
        process.returncode = os.waitstatus_to_exitcode(status)
        for number in (self._errors, self._pipe):
            self._read(number)
        os.close(self._pipe)
        assert process.stderr is not None
        process.stderr.close()
        self._close_stdin()
        per_mb = 1024 * 1024 if sys.platform == "darwin" else 1024
        return _Exit(process.returncode, usage.ru_maxrss // per_mb)

    def _close_stdin(self) -> None:
        """The child ends when it has read all; what is not sent by now is not wanted."""
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._unsent.clear()

    def _send(self) -> bool:
        """Whether there is more to send."""
        try:
            del self._unsent[: os.write(self._stdin, self._unsent)]
        except BlockingIOError:
            return True
        except BrokenPipeError:
            return False  # it has died, as will be seen
        return bool(self._unsent)

    def _read(self, number: int) -> bool:
        """Take what is there; whether more can come."""
        while True:
            try:
                chunk = os.read(number, CHUNK_BYTES)
            except BlockingIOError:
                return True
            if not chunk:
                return False
            if number == self._pipe:
                self._take(chunk)
            else:
                self._pass_on(chunk)

    def _pass_on(self, chunk: bytes) -> None:
        """What a step logs belongs into the worker's log, wherever it runs."""
        sys.stderr.buffer.write(chunk)
        sys.stderr.buffer.flush()
        self._stderr += chunk
        del self._stderr[:-STDERR_SHOWN_BYTES]

    def _take(self, chunk: bytes) -> None:
        has_begun = bool(self._received)
        self._received += chunk
        if has_begun or self._is_unwanted:
            return
        if self._timeout_ms is None:
            self._deadline = None
        else:
            # The child keeps the timeout itself, unless the step does not let it.
            self._set_deadline(self._timeout_ms / 1_000 + STOP_GRACE_S, TIMED_OUT)

    def _set_deadline(self, delay_s: float, reason: str) -> None:
        self._deadline = _Deadline(time.monotonic() + delay_s, reason)

    def _end_if_due(self, pid: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            if self._is_unwanted and not self._is_told:
                self._is_told = True
                os.killpg(pid, signal.SIGTERM)
                self._close_stdin()
                self._set_deadline(STOP_GRACE_S, NOT_ENDED)
            elif self._deadline is not None and time.monotonic() > self._deadline.at:
                self._killed_for = self._deadline.reason
                os.killpg(pid, signal.SIGKILL)

    def _result(self) -> Result | None:
        """None as long as it is not there as a whole."""
        head = len(HAS_BEGUN) + LENGTH.size
        if len(self._received) < head:
            return None
        (length,) = LENGTH.unpack_from(self._received, len(HAS_BEGUN))
        if len(self._received) < head + length:
            return None
        result: Result = pickle.loads(self._received[head:])
        return result

    def _death(self, ended: _Exit | None) -> Died | TimedOut:
        if self._killed_for == TIMED_OUT and self._timeout_ms is not None:
            return TimedOut(self._timeout_ms)
        evidence = self._killed_for
        if ended is not None and not evidence:
            evidence = _how(ended.code, self._setup.memory_max_mb)
        if ended is not None:
            evidence += f"; peak memory {ended.peak_mb} MB"
        last_lines = self._stderr.decode("utf-8", "replace").strip()
        if last_lines:
            evidence += f"; the end of its standard error:\n{last_lines}"
        return Died(evidence, is_proof=bool(self._received) and self.served == 1)


def _how(exit_code: int, memory_max_mb: int | None) -> str:
    if exit_code == EXIT_OUT_OF_MEMORY and memory_max_mb is not None:
        return f"it ran out of the {memory_max_mb} MB that an isolated attempt may use"
    if exit_code >= 0:
        return f"it ended with exit code {exit_code}"
    try:
        name = signal.Signals(-exit_code).name
    except ValueError:
        name = "unnamed"
    return f"it was ended by signal {-exit_code} ({name})"
