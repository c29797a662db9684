"""A program that only sends does not load what only workflows need."""

from __future__ import annotations

import json
import subprocess
import sys

# Each of them costs more than all that a client needs of ours together.
HEAVY = {"pydantic", "stepfold.sdk", "stepfold.engine", "cel_expr_python", "typer", "uvloop"}
SCRIPT = "import json, sys; from stepfold import {}; print(json.dumps(list(sys.modules)))"


def loaded_by(names: str) -> set[str]:
    command = (sys.executable, "-c", SCRIPT.format(names))
    printed = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    return HEAVY & set(json.loads(printed))


def test_client_loads_no_pydantic_and_no_sdk() -> None:
    assert loaded_by("Client, RunFailed, Fatal") == set()


def test_workflow_module_loads_no_engine_and_no_filters_before_they_are_used() -> None:
    assert loaded_by("App, step, event, Retry, current_run") == {"pydantic", "stepfold.sdk"}
