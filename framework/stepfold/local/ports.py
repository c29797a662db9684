"""Which ports brokers listen on: those of before, or the next ones that are free."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Sequence

from stepfold.core.errors import KafkaError
from stepfold.local.state import BrokerState, is_alive

PORT_DEFAULT = 9092
PORTS_TRIED_MAX = 200


def choose(
    before: Sequence[BrokerState | None], first: int | None, say: Callable[[str], None]
) -> list[BrokerState]:
    """For each broker, in order; those that run stay as they are. first: the port asked for.

    Raises KafkaError when a port is taken that those who run know a broker by.
    """
    running = [broker for broker in before if broker is not None and is_alive(broker)]
    taken = {port for broker in running for port in (broker.port, broker.controller_port)}
    chosen: list[BrokerState] = []
    for node, old in enumerate(before, start=1):
        if old is not None and is_alive(old):
            chosen.append(old)
            continue
        wanted = first or (old.port if old is not None else PORT_DEFAULT)
        port = _free(wanted, taken)
        inner = _free(old.controller_port if old is not None else port + 1, taken)
        is_moved = old is not None and (port, inner) != (old.port, old.controller_port)
        if running and is_moved:
            raise KafkaError(
                f"port {wanted} of broker {node} is in use, and its {len(running)} running "
                "neighbours know it by that; free it, or `stepfold kafka stop` them first"
            )
        if port != wanted and node == 1:
            say(f"port {wanted} is in use, Kafka listens on {port}")
        chosen.append(BrokerState(node=node, port=port, controller_port=inner, pid=0, began=""))
    return chosen


def _free(wanted: int, taken: set[int]) -> int:
    """The first free port from here on; it is taken from now on."""
    for port in range(wanted, min(wanted + PORTS_TRIED_MAX, 65_536)):
        if port in taken:
            continue
        with socket.socket() as probe:
            # A connection that waits to be forgotten does not make a port unusable.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with contextlib.suppress(OSError):
                probe.bind(("127.0.0.1", port))
                taken.add(port)
                return port
    last = wanted + PORTS_TRIED_MAX - 1
    raise KafkaError(f"no free port from {wanted} to {last}; name another one with --port")
