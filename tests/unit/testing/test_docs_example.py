"""The example of docs/testing.md is a test that passes."""

from __future__ import annotations

import re
from typing import Any

from stepfold import testing
from tests.unit.house_sources import ROOT

TEXT = (ROOT / "docs" / "testing.md").read_text()
(EXAMPLE,) = re.findall(r"^```python\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)


def test_example_of_the_documentation_passes() -> None:
    names: dict[str, Any] = {"__name__": "testing_example"}
    exec(compile(EXAMPLE, "docs/testing.md", "exec", dont_inherit=True), names)
    tests = [name for name in names if name.startswith("test_")]

    for name in tests:
        names[name]()

    assert tests == ["test_search_is_tried_again_and_survives_a_crash"]


def test_what_the_documentation_names_is_there() -> None:
    named = re.findall(r"`(sandbox|run|hold)\.(\w+)", TEXT)
    homes = {"sandbox": testing.Sandbox, "run": testing.SandboxRun, "hold": testing.Hold}

    missing = [f"{home}.{name}" for home, name in named if not hasattr(homes[home], name)]

    assert len(named) > 15
    assert missing == []
