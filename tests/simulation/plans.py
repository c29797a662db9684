"""Random programs: what a simulated workflow does, as data.

A plan is a tree of JSON objects. The workflow gets it as its input and carries it out
through the SDK (`workflows.py`); the judge walks the same tree in plain Python and says
which results it allows (`judgement.py`). A new kind of node needs a branch in each of the
two, and a line in `KINDS` below.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import pydantic_core

Node: TypeAlias = dict[str, Any]

STEP_NAMES = ("plan", "search", "read", "rank", "send")
SIGNAL_NAMES = ("approval", "answer")
LEAVES_MAX = 8
CHILD_LEAVES_MAX = 2
DEPTH_MAX = 4
DURATIONS_MS = (0, 0, 1, 20, 150, 150, 900, 2_500)
PAUSES_MS = (1, 50, 400, 2_000, 5_000)
BENIGN = ("ok", "ok", "ok", "ok", "ok", "fail", "fail", "after", "fatal")


def random_plan(dice: random.Random, *, deadly: bool) -> Node:
    """deadly: some attempts take their process down with them."""
    budget = [dice.randint(1, LEAVES_MAX)]
    parts: list[Node] = []
    while budget[0] > 0:
        parts.append(_node(dice, budget, 0, deadly))
    if dice.random() < 0.05:
        parts.append({"do": "fail"})
    return {"do": "seq", "of": parts}


def digest(seen: str, value: object) -> str:
    """A short name for all that came before; what a step returns depends on it."""
    return f"{zlib.crc32(pydantic_core.to_json(value), zlib.crc32(seen.encode())):08x}"


def nodes(node: Node) -> Iterator[Node]:
    """The node and all below it that is done in the same run; a loop's body for each turn."""
    yield node
    below = node.get("of", ())
    children: list[Node] = [below] if isinstance(below, dict) else list(below)
    if "undo" in node:
        children.append(node["undo"])
    for _ in range(node.get("times", 1)):
        for child in children:
            yield from nodes(child)


def _node(dice: random.Random, budget: list[int], depth: int, deadly: bool) -> Node:
    kind = dice.choices(_NAMES, _WEIGHTS)[0] if depth < DEPTH_MAX else "step"
    if kind in _LEAVES:
        budget[0] -= 1
        return _LEAVES[kind](dice, deadly)

    def below() -> Node:
        return _node(dice, budget, depth + 1, deadly)

    match kind:
        case "loop":
            return {"do": "loop", "times": dice.randint(2, 3), "of": below()}
        case "try":
            undo = _step(dice, deadly=False) | {"tries": [[1, "ok"]]}
            return {"do": "try", "of": below(), "undo": undo}
        case "within":
            return {"do": "within", "ms": dice.choice((30, 300, 3_000)), "of": below()}
        case _:
            return {"do": kind, "of": [below() for _ in range(dice.randint(2, 3))]}


def _step(dice: random.Random, deadly: bool) -> Node:
    how = dice.choice(("inline", "inline", "declared", "plain"))
    attempts = dice.randint(1, 4)
    tries: list[list[Any]] = []
    for _ in range(dice.randint(1, attempts + 1)):
        then = dice.choice(BENIGN)
        if deadly and dice.random() < 0.1:
            then = "crash"
        tries.append([0 if how == "plain" else dice.choice(DURATIONS_MS), then])
    if tries[-1][1] == "crash":
        tries.append([1, "ok"])
    timeout_ms = dice.choice((0, 0, 0, 100, 1_000)) if how != "plain" else 0
    if timeout_ms and dice.random() < 0.3:
        tries[0] = [0, "hang"]
    return {
        "do": "step",
        "how": how,
        "name": dice.choice(STEP_NAMES),
        "tries": tries,
        "attempts": attempts,
        "delay": dice.choice((0, 10, 200, 1_000)),
        "timeout": timeout_ms,
    }


def _sleep(dice: random.Random, deadly: bool) -> Node:
    return {"do": "sleep", "name": "nap", "ms": dice.choice(PAUSES_MS)}


def _timer(dice: random.Random, deadly: bool) -> Node:
    return {"do": "timer", "ms": dice.choice(PAUSES_MS)}


def _signal(dice: random.Random, deadly: bool) -> Node:
    return {
        "do": "signal",
        "name": dice.choice(SIGNAL_NAMES),
        "type": dice.choice(("int", "text")),
        "ms": dice.choice((0, 200, 2_000, 8_000)),
    }


def _same(dice: random.Random, deadly: bool) -> Node:
    return {"do": "same", "name": "echo"}


def _child(dice: random.Random, deadly: bool) -> Node:
    return {
        "do": "child",
        "name": "delegate",
        "plan": _child_plan(dice, deadly),
        "ms": dice.choice((0, 0, 0, 300, 3_000)),
    }


def _start(dice: random.Random, deadly: bool) -> Node:
    return {"do": "start", "name": "launch", "plan": _child_plan(dice, deadly)}


def _tell(dice: random.Random, deadly: bool) -> Node:
    event_id = dice.choice(("", "", "told-1"))
    return {"do": "tell", "name": "tell", "id": event_id, "plan": _child_plan(dice, deadly)}


def _child_plan(dice: random.Random, deadly: bool) -> Node:
    """Without children of its own, or there would be no end of them."""
    kinds = [_step, _step, _sleep, _signal]
    count = dice.randint(1, CHILD_LEAVES_MAX)
    return {"do": "seq", "of": [dice.choice(kinds)(dice, deadly) for _ in range(count)]}


_LEAVES: dict[str, Callable[[random.Random, bool], Node]] = {
    "step": _step,
    "sleep": _sleep,
    "timer": _timer,
    "signal": _signal,
    "same": _same,
    "child": _child,
    "start": _start,
    "tell": _tell,
}
KINDS: tuple[tuple[str, int], ...] = (
    ("step", 10),
    ("sleep", 2),
    ("timer", 1),
    ("signal", 3),
    ("same", 1),
    ("child", 2),
    ("start", 1),
    ("tell", 1),
    ("seq", 1),
    ("loop", 1),
    ("gather", 2),
    ("group", 1),
    ("race", 2),
    ("try", 2),
    ("within", 1),
)
"""Kinds of nodes and how often each is drawn."""
_NAMES, _WEIGHTS = zip(*KINDS, strict=True)
