"""What reaches outside is refused in workflow code, with the advice to do it in a step."""

from __future__ import annotations

import asyncio
import logging
import logging.handlers
import os
import signal
import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
import uvloop

from stepfold import App, step
from stepfold.sdk.calls import Completed, Completion
from stepfold.sdk.loop import RunLoop
from stepfold.sdk.outside import LOOP_METHODS, OutsideWorldError
from tests.unit.sdk.played import Play, play


@step
async def echo(value: int) -> int:
    return value


def running() -> asyncio.AbstractEventLoop:
    return asyncio.get_running_loop()


def send_datagram() -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as sender:
        sender.sendto(b"", ("127.0.0.1", 1))


# Never opened: the loop refuses before it looks at it.
SOCKET: Any = None
ASKED_OF_THE_LOOP: dict[str, Callable[[], Coroutine[Any, Any, Any]]] = {
    "open_connection": lambda: asyncio.open_connection("localhost", 1),
    "start_server": lambda: asyncio.start_server(lambda reader, writer: None, "localhost", 0),
    "open_unix_connection": lambda: asyncio.open_unix_connection("socket"),
    "create_datagram_endpoint": lambda: running().create_datagram_endpoint(
        asyncio.DatagramProtocol
    ),
    "getaddrinfo": lambda: running().getaddrinfo("localhost", 1),
    "getnameinfo": lambda: running().getnameinfo(("127.0.0.1", 1)),
    "sock_connect": lambda: running().sock_connect(SOCKET, ("127.0.0.1", 1)),
    "sock_recv": lambda: running().sock_recv(SOCKET, 1),
    "sock_sendall": lambda: running().sock_sendall(SOCKET, b""),
    "sock_accept": lambda: running().sock_accept(SOCKET),
    "to_thread": lambda: asyncio.to_thread(print),
    "subprocess_exec": lambda: asyncio.create_subprocess_exec("true"),
    "subprocess_shell": lambda: asyncio.create_subprocess_shell("true"),
}
CALLED_ON_THE_LOOP: dict[str, Callable[[], object]] = {
    "run_in_executor": lambda: running().run_in_executor(None, print),
    "add_reader": lambda: running().add_reader(0, print),
    "remove_writer": lambda: running().remove_writer(0),
    "add_signal_handler": lambda: running().add_signal_handler(signal.SIGTERM, print),
    "run_until_complete": lambda: running().run_until_complete(running().create_future()),
    "run_forever": lambda: running().run_forever(),
    "stop": lambda: running().stop(),
    "call_soon_threadsafe": lambda: running().call_soon_threadsafe(print),
    "set_task_factory": lambda: running().set_task_factory(None),
    "set_exception_handler": lambda: running().set_exception_handler(None),
}
PAST_THE_LOOP: dict[str, Callable[[], object]] = {
    "connection": lambda: socket.create_connection(("127.0.0.1", 1)),
    "http": lambda: urllib.request.urlopen("http://127.0.0.1:1"),
    "datagram": send_datagram,
    "process": lambda: subprocess.run(["true"], check=True),
    "fork": os.fork,
}
if sys.version_info >= (3, 12):
    PAST_THE_LOOP["thread"] = lambda: threading.Thread(target=print).start()


def error_of(attempt: Callable[[], object]) -> str:
    async def workflow() -> str:
        try:
            value = attempt()
            if asyncio.iscoroutine(value):
                await value
        except OutsideWorldError as error:
            return str(error)
        return "allowed"

    return str(play(App("outside").workflow(workflow)).result)


@pytest.mark.parametrize("attempt", ASKED_OF_THE_LOOP.values(), ids=ASKED_OF_THE_LOOP)
def test_what_asyncio_would_do_outside_belongs_in_a_step(attempt: Callable[[], object]) -> None:
    assert "do it in a step: await step.run(" in error_of(attempt)


@pytest.mark.parametrize("attempt", CALLED_ON_THE_LOOP.values(), ids=CALLED_ON_THE_LOOP)
def test_what_the_loop_would_do_outside_belongs_in_a_step(attempt: Callable[[], object]) -> None:
    assert "do it in a step: await step.run(" in error_of(attempt)


@pytest.mark.parametrize("attempt", PAST_THE_LOOP.values(), ids=PAST_THE_LOOP)
def test_what_goes_past_the_loop_belongs_in_a_step(attempt: Callable[[], object]) -> None:
    assert "do it in a step: await step.run(" in error_of(attempt)


def test_every_method_of_a_loop_works_or_is_refused() -> None:
    methods = [name for name in dir(asyncio.AbstractEventLoop) if not name.startswith("__")]

    inherited = [
        name
        for name in methods
        if getattr(RunLoop, name) is getattr(asyncio.AbstractEventLoop, name)
    ]

    assert inherited == []
    assert set(LOOP_METHODS) > {"create_connection", "subprocess_exec", "run_in_executor"}


async def _nothing() -> None: ...


def test_other_loop_cannot_be_run_from_inside() -> None:
    async def workflow() -> str:
        try:
            asyncio.run(_nothing())
        except RuntimeError as error:
            return str(error)
        return "allowed"

    with pytest.warns(RuntimeWarning, match="never awaited"):
        result = play(App("outside").workflow(workflow)).result

    assert "cannot be called from a running event loop" in result


def test_log_handler_may_send_a_line_from_workflow_code() -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as receiver:
        receiver.bind(("127.0.0.1", 0))
        receiver.settimeout(10)
        handler = logging.handlers.DatagramHandler(*receiver.getsockname())
        logger = logging.getLogger("tests.outside")
        logger.addHandler(handler)

        async def workflow() -> None:
            logger.warning("found nothing")

        play(App("outside").workflow(workflow))
        line = receiver.recv(10_000)
        logger.removeHandler(handler)
        handler.close()

    assert b"found nothing" in line


def test_steps_may_do_all_of_it() -> None:
    async def workflow() -> int:
        done = await step.run("process", subprocess.call, ["true"])
        return done + await echo(1)

    assert play(App("outside").workflow(workflow)).result == 1


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_runs_on_their_own_loop_whatever_the_workers_loop_is(
    new_loop: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    async def workflow() -> bool:
        await asyncio.gather(asyncio.sleep(0), asyncio.create_task(asyncio.sleep(0)))
        task = asyncio.current_task()
        return task is not None and asyncio.get_running_loop() is not outer

    outer = new_loop()
    completions: list[Completion] = []
    instance = Play(App("outside").workflow(workflow)).instance()

    async def work() -> None:
        """The worker enters a run from a callback, while tasks of its own are waiting."""
        done = outer.create_future()

        def activate() -> None:
            completions.append(instance.activate(None, replaying=False))
            done.set_result(None)

        outer.call_soon(activate)
        await done
        assert asyncio.get_running_loop() is outer

    outer.run_until_complete(work())
    outer.close()
    instance.close()

    assert completions[0].end == Completed(payload=b"true")
