"""Runs coroutines side by side, a step of one at a time, in every order there is.

An actor waits before each of its steps until it is its turn. When all wait, one is chosen; what
was chosen is the schedule. `every_order` runs a scene again and again until it has seen them all.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextvars import ContextVar
from typing import Any

ACTOR: ContextVar[str] = ContextVar("actor")
Scene = Callable[["Turns"], Awaitable[None]]


class Turns:
    def __init__(self, choose: Callable[[int], int]) -> None:
        self._choose = choose
        self._waiting: dict[str, list[asyncio.Future[None]]] = {}

    async def wait(self, step: str) -> None:
        """Outside of `together` it is always the caller's turn."""
        actor = ACTOR.get(None)
        if actor is None:
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(actor, []).append(turn)
        await turn

    async def together(self, **actors: Coroutine[Any, Any, None]) -> None:
        tasks = {name: asyncio.create_task(self._act(name, work)) for name, work in actors.items()}
        while running := [name for name, task in tasks.items() if not task.done()]:
            if not all(self._waiting.get(name) for name in running):
                await asyncio.sleep(0)  # until each of them waits or has ended
                continue
            name = running[self._choose(len(running))]
            self._waiting[name].pop(0).set_result(None)
            if not self._waiting[name]:
                del self._waiting[name]
        for task in tasks.values():
            await task

    async def _act(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        ACTOR.set(name)
        await work


def every_order(scene: Scene) -> int:
    """How many there were."""
    orders = 0
    schedule: list[tuple[int, int]] = []
    while True:
        steps = _following(schedule)
        asyncio.run(_play(scene, steps))
        orders += 1
        while schedule and schedule[-1][0] + 1 == schedule[-1][1]:
            schedule.pop()
        if not schedule:
            return orders
        schedule[-1] = (schedule[-1][0] + 1, schedule[-1][1])


def some_orders(scene: Scene, seeds: range) -> None:
    for seed in seeds:
        asyncio.run(_play(scene, random.Random(seed).randrange))


async def _play(scene: Scene, choose: Callable[[int], int]) -> None:
    async with asyncio.timeout(20):
        await scene(Turns(choose))


def _following(schedule: list[tuple[int, int]]) -> Callable[[int], int]:
    """Chooses as the schedule says, and the first one behind its end; writes down what it chose."""
    known: Iterator[tuple[int, int]] = iter(list(schedule))
    schedule.clear()

    def choose(count: int) -> int:
        chosen = next(known, (0, count))[0]
        schedule.append((chosen, count))
        return chosen

    return choose
