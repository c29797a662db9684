"""Which results a plan allows: the same program once more, in plain Python, without an engine.

A plan leaves open who wins a race, whether a signal comes in time, which attempts are
lost. So this does not compute the result: it walks the plan beside the result that a run
reported, follows the turns that the run says it took, and checks that each was open to it
and that every value is the one that follows from the values before it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tests.simulation.plans import Node, digest

FAILURES = frozenset({"RuntimeError", "Fatal", "RetryAfter", "StepTimeout"}) | frozenset(
    {"StepFailed", "RunCancelled", "TimeoutError"}
)
"""What the steps of a plan fail with, and then its child runs."""


class NotAllowedError(Exception):
    """The plan does not lead to the result."""


class Judge:
    """`signals` are the payloads that the result says were received."""

    def __init__(self) -> None:
        self.signals: list[Any] = []

    def walk(self, node: Node, result: Any, seen: str) -> None:
        """Raises NotAllowedError."""
        match node["do"]:
            case "seq":
                self._one_by_one(node["of"], result, seen)
            case "loop":
                self._one_by_one([node["of"]] * node["times"], result, seen)
            case "gather" | "group":
                self._at_once(node["of"], result, seen)
            case "race":
                self._race(node["of"], result, seen)
            case "try":
                self._try(node, result, seen)
            case "within":
                self._within(node, result, seen)
            case _:
                self._leaf(node, result, seen)

    def _one_by_one(self, turns: Sequence[Node], result: Any, seen: str) -> None:
        results = _list(result, len(turns))
        for node, each in zip(turns, results, strict=True):
            self.walk(node, each, seen)
            seen = digest(seen, each)

    def _at_once(self, children: list[Node], result: Any, seen: str) -> None:
        tag, results = _list(result, 2)
        _expect(tag, "all")
        for place, (node, each) in enumerate(
            zip(children, _list(results, len(children)), strict=True)
        ):
            self.walk(node, each, f"{seen}/{place}")

    def _race(self, children: list[Node], result: Any, seen: str) -> None:
        tag, winner, value = _list(result, 3)
        _expect(tag, "won")
        if type(winner) is not int or not 0 <= winner < len(children):
            raise NotAllowedError(f"child {winner} of {len(children)} cannot win")
        self.walk(children[winner], value, f"{seen}/{winner}")

    def _try(self, node: Node, result: Any, seen: str) -> None:
        if result[0] == "done":
            self.walk(node["of"], _list(result, 2)[1], seen)
            return
        tag, error_type, undone = _list(result, 3)
        _expect(tag, "undone")
        if error_type not in FAILURES:
            raise NotAllowedError(f"no step of the plan fails with {error_type}")
        self.walk(node["undo"], undone, digest(seen, error_type))

    def _within(self, node: Node, result: Any, seen: str) -> None:
        if result[0] == "in time":
            self.walk(node["of"], _list(result, 2)[1], seen)
        else:
            _expect(result, ["timed out"])

    def _leaf(self, node: Node, result: Any, seen: str) -> None:
        match node["do"]:
            case "step":
                _expect(result, ["ok", f"{node['name']}:{digest(seen, node['name'])}"])
            case "sleep" | "timer":
                tag, slept_ms = _list(result, 2)
                _expect(tag, "slept")
                _at_least(slept_ms, node["ms"], "slept")
            case "signal":
                self._signal(node, result)
            case "same":
                _expect(result, ["same"])
            case "child":
                tag, value = _list(result, 2)
                _expect(tag, "child")
                Judge().walk(node["plan"], value, "")
            case "start" | "tell":
                tag, value = _list(result, 2)
                _expect(tag, "started" if node["do"] == "start" else "told")
                if node.get("id") and value != node["id"]:
                    raise NotAllowedError(f"event {node['id']} was sent as {value}")
            case _:
                raise NotAllowedError("the plan fails here, and the run went on")

    def _signal(self, node: Node, result: Any) -> None:
        tag, value = _list(result, 2)
        if tag == "no signal":
            if not node["ms"]:
                raise NotAllowedError("a wait without a bound ended without a signal")
            _at_least(value, node["ms"], "waited")
            return
        _expect(tag, "signal")
        if not isinstance(value, int if node["type"] == "int" else str):
            raise NotAllowedError(f"a wait for {node['type']} was given {value!r}")
        self.signals.append(value)


ROUNDING_MS = 1


def _at_least(took_ms: int, planned_ms: int, what: str) -> None:
    if took_ms < planned_ms - ROUNDING_MS:
        raise NotAllowedError(f"{what} {took_ms} ms of {planned_ms}")


def _list(value: Any, length: int) -> list[Any]:
    if type(value) is not list or len(_items(value)) != length:
        raise NotAllowedError(f"{value!r} is not a list of {length}")
    return _items(value)


def _items(value: Any) -> list[Any]:
    """JSON, of which a checker of types knows nothing."""
    items: list[Any] = list(value)
    return items


def _expect(value: object, wanted: object) -> None:
    if value != wanted:
        raise NotAllowedError(f"{value!r} in place of {wanted!r}")
