"""The trace of a run as a tree for terminals, from the JSON that the API gives."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from rich.text import Text
from rich.tree import Tree

Json = Mapping[str, Any]

VALUE_CHARACTERS_MAX = 100
MARKS = {
    "completed": ("✓", "green"),
    "resolved": ("✓", "green"),
    "fired": ("✓", "green"),
    "failed": ("✗", "red"),
    "timed_out": ("✗", "red"),
    "cancelled": ("⊘", "yellow"),
    "lost": ("☠", "magenta"),
}
OTHER_MARK = ("…", "cyan")


def trace_tree(run: Json) -> Tree:
    tree = Tree(_title(run))
    tree.add(_value("input", run["input"]))
    for _, branch in sorted(
        [(step["started_at"], _step(step)) for step in run["steps"]]
        + [(wait["opened_at"], _wait(wait)) for wait in run["waits"]]
        + [(timer["set_at"], _timer(timer)) for timer in run["timers"]],
        key=lambda item: item[0],
    ):
        tree.children.append(branch)
    if run["output"] is not None:
        tree.add(_value("output", run["output"]))
    if run["error"] is not None:
        tree.add(_error(run["error"]))
    return tree


def _title(run: Json) -> Text:
    title = Text.assemble(
        ("run ", "dim"), (run["id"], "bold"), " ", (run["workflow"], "bold cyan"), "  "
    )
    title.append_text(_mark(run["status"]))
    title.append(f" {run['status']}")
    if run["duration_ms"] is not None:
        title.append(f" in {_duration(run['duration_ms'])}")
    title.append(
        f"  ({run['steps_total']} steps, {run['attempts_total']} attempts, "
        f"{run['failures']} failed, {run['losses']} lost)",
        "dim",
    )
    return title


def _step(step: Json) -> Tree:
    attempts: Sequence[Json] = step["attempts"]
    title = Text.assemble(_mark(step["status"]), " ", (step["step"], "bold"))
    if len(attempts) == 1:
        title.append(f"  {_took(attempts[0])}", "dim")
    branch = Tree(title)
    if len(attempts) > 1 or attempts[0]["error"] is not None:
        for attempt in attempts:
            branch.add(_attempt(attempt))
    branch.add(_value("in", _arguments(step["input"])))
    if step["output"] is not None:
        branch.add(_value("out", step["output"]))
    return branch


def _attempt(attempt: Json) -> Text:
    line = Text.assemble(_mark(attempt["status"]), f" attempt {attempt['number']}  ")
    line.append(_took(attempt), "dim")
    if attempt["error"] is not None:
        line.append("  ")
        line.append_text(_error(attempt["error"]))
    return line


def _wait(wait: Json) -> Tree:
    title = Text.assemble(_mark(wait["status"]), " ", (wait["name"], "bold"))
    title.append(f"  waited for a {wait['kind']} {_span(wait['opened_at'], wait)}", "dim")
    branch = Tree(title)
    if wait["value"] is not None:
        branch.add(_value("got", wait["value"]))
    return branch


def _timer(timer: Json) -> Tree:
    title = Text.assemble(_mark(timer["status"]), " ", (timer["id"], "bold"))
    title.append(f"  {timer['purpose']} {_span(timer['set_at'], timer)}", "dim")
    return Tree(title)


def _mark(status: str) -> Text:
    return Text(*MARKS.get(status, OTHER_MARK))


def _error(error: Json) -> Text:
    return Text(f"{error['type']}: {_cut(error['message'])}", "red")


def _value(name: str, value: object) -> Text:
    text = json.dumps(value, ensure_ascii=False)
    return Text.assemble((f"{name} ", "dim"), _cut(text))


def _arguments(given: Any) -> Any:
    """Positional arguments alone read better without their envelope."""
    if isinstance(given, Mapping) and set(given) == {"args", "kwargs"} and not given["kwargs"]:  # pyright: ignore[reportUnknownArgumentType]
        return given["args"]  # pyright: ignore[reportUnknownVariableType]
    return given  # pyright: ignore[reportUnknownVariableType]


def _took(attempt: Json) -> str:
    if attempt["took_ms"] is not None:
        return _duration(attempt["took_ms"])
    return f"after {_span(attempt['started_at'], attempt)}"


def _span(begin: str, item: Json) -> str:
    if item["ended_at"] is None:
        return "until now"
    lasted = datetime.fromisoformat(item["ended_at"]) - datetime.fromisoformat(begin)
    return _duration(round(lasted.total_seconds() * 1_000))


def _duration(milliseconds: int) -> str:
    return f"{milliseconds} ms" if milliseconds < 1_000 else f"{milliseconds / 1_000:.1f} s"


def _cut(text: str) -> str:
    line = " ".join(text.split())
    rest = len(line) - VALUE_CHARACTERS_MAX
    return line if rest <= 0 else f"{line[:VALUE_CHARACTERS_MAX]}… ({rest} more characters)"
