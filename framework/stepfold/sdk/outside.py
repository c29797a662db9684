"""What workflow code may not reach: sockets, threads, processes, signals, other loops.

Most code asks the running loop for them, and a run's loop refuses by name. Code that does
not ask (a blocking client called in the wrong place) is seen by an audit hook, which
Python asks before it connects a socket or starts a process; from 3.12 on, also before it
starts a thread. The hook is for honest mistakes and no sandbox: files and clocks are not
watched.
"""

from __future__ import annotations

import sys
from asyncio import events
from collections.abc import Callable
from types import FrameType
from typing import Any, NoReturn


class OutsideWorldError(RuntimeError):
    """Workflow code reached for something that a replay could not repeat."""


def refuse_outside_world(loop_class: type) -> None:
    """Whatever runs on a loop of this class is workflow code. To be called once."""
    for name in LOOP_METHODS:
        setattr(loop_class, name, _refusal(f"loop.{name}"))

    def audit(event: str, args: tuple[Any, ...]) -> None:
        if (
            event in AUDITED
            and isinstance(events._get_running_loop(), loop_class)
            and not _is_logging(sys._getframe(1))  # pyright: ignore[reportPrivateUsage]
        ):
            raise _outside(f"{event} ({AUDITED[event]})")

    sys.addaudithook(audit)


LOOP_METHODS = (
    "add_reader",
    "add_signal_handler",
    "add_writer",
    "call_soon_threadsafe",
    "connect_accepted_socket",
    "connect_read_pipe",
    "connect_write_pipe",
    "create_connection",
    "create_datagram_endpoint",
    "create_server",
    "create_unix_connection",
    "create_unix_server",
    "getaddrinfo",
    "get_exception_handler",
    "get_task_factory",
    "getnameinfo",
    "remove_reader",
    "remove_signal_handler",
    "remove_writer",
    "run_forever",
    "run_in_executor",
    "run_until_complete",
    "sendfile",
    "set_default_executor",
    "set_exception_handler",
    "set_task_factory",
    "sock_accept",
    "sock_connect",
    "sock_recv",
    "sock_recv_into",
    "sock_recvfrom",
    "sock_recvfrom_into",
    "sock_sendall",
    "sock_sendfile",
    "sock_sendto",
    "start_tls",
    "stop",
    "subprocess_exec",
    "subprocess_shell",
)
"""What a loop offers that a run's loop does not."""

AUDITED = {
    "_thread.start_joinable_thread": "starting a thread",
    "_thread.start_new_thread": "starting a thread",
    "os.exec": "starting a program",
    "os.fork": "starting a process",
    "os.forkpty": "starting a process",
    "os.posix_spawn": "starting a process",
    "os.spawn": "starting a process",
    "os.system": "starting a process",
    "socket.bind": "opening a socket",
    "socket.connect": "opening a socket",
    "socket.getaddrinfo": "looking up a host",
    "socket.gethostbyname": "looking up a host",
    "socket.sendto": "sending to a socket",
    "subprocess.Popen": "starting a process",
}
"""Names of Python's audit events, and what they stand for."""


def _refusal(what: str) -> Callable[..., NoReturn]:
    def refuse(self: object, *args: Any, **options: Any) -> NoReturn:
        raise _outside(what)

    return refuse


def _outside(what: str) -> OutsideWorldError:
    return OutsideWorldError(
        f"{what} is not available in workflow code, because a replay could not repeat it; "
        "do it in a step: await step.run(name, function, ...)"
    )


def _is_logging(frame: FrameType | None) -> bool:
    """Handlers may send a line wherever they like: it changes nothing in the workflow."""
    while frame is not None:
        if frame.f_globals.get("__name__") == "logging":
            return True
        frame = frame.f_back
    return False
