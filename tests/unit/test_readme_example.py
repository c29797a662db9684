"""The example that a reader meets first is a program, and does what the text says."""

from __future__ import annotations

import ast
import asyncio
import re
from typing import Any

from stepfold import App
from stepfold.sdk.triggers import EventView
from tests.unit.house_sources import ROOT

BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


def test_first_example_declares_the_workflow_that_the_text_triggers() -> None:
    app: App = _names()["app"]

    asked = EventView(name="agent/run", id="", payload=b'{"query": "tides"}')
    empty = EventView(name="agent/run", id="", payload=b'{"query": ""}')

    assert app.name == "research"
    assert app.workflows["agent"].matches(asked)
    assert not app.workflows["agent"].matches(empty)


def test_step_of_the_first_example_is_an_ordinary_function_outside_of_runs() -> None:
    search = _names()["search"]

    assert asyncio.run(search("tides")) == ["what the web says about tides"]


def test_first_example_is_the_one_among_the_examples() -> None:
    assert (ROOT / "examples" / "research.py").read_text().endswith(_blocks()[0])


def test_all_examples_are_python() -> None:
    for block in _blocks():
        # `await` and `async with` stand outside of functions in some of them.
        flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
        compile(block, "README.md", "exec", flags=flags)


def _names() -> dict[str, Any]:
    names: dict[str, Any] = {"__name__": "readme_example"}
    code = compile(_blocks()[0], "README.md", "exec", dont_inherit=True)
    exec(code, names)
    return names


def _blocks() -> list[str]:
    return BLOCK.findall((ROOT / "README.md").read_text())
