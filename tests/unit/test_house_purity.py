"""The core is a function of the log: nothing in it may ask the time, roll dice or wait.

A fold that reads a clock gives another state on the next reading, and then two processes that
read the same log disagree about what has happened.
"""

from __future__ import annotations

import ast

from tests.unit.house_sources import Source, everything, imports, report, shipped

IMPURE_MODULES = {
    "asyncio",
    "logging",
    "os",
    "random",
    "secrets",
    "socket",
    "structlog",
    "subprocess",
    "threading",
    "time",
}
IMPURE_CALLS = {
    "datetime.now",
    "datetime.today",
    "datetime.utcnow",
    "date.today",
    "open",
    "print",
    "time.monotonic",
    "time.time",
    "uuid.uuid1",
    "uuid.uuid4",
    "uuid1",
    "uuid4",
}
ASYNC_SYNTAX = (ast.AsyncFunctionDef, ast.AsyncFor, ast.AsyncWith, ast.Await)


def test_core_has_no_clock_no_dice_no_logging_and_nothing_to_wait_for() -> None:
    findings: list[str] = []
    for source in shipped():
        if not source.module.startswith("stepfold.core"):
            continue
        findings += [
            source.at(node, f"core may not import {name}")
            for node, name in imports(source)
            if name.split(".")[0] in IMPURE_MODULES
        ]
        for node in ast.walk(source.tree):
            if isinstance(node, ASYNC_SYNTAX):
                findings.append(source.at(node, "core may not be asynchronous"))
            if isinstance(node, ast.Call) and _called(node) in IMPURE_CALLS:
                findings.append(source.at(node, f"core may not call {_called(node)}"))

    assert not findings, report(findings)


def test_tests_wait_for_conditions_and_never_for_a_length_of_time() -> None:
    findings = [
        source.at(node, "time.sleep() in a test: wait for a condition, with a deadline")
        for source in everything()
        if source.path.startswith("tests/")
        for node in ast.walk(source.tree)
        if isinstance(node, ast.Call) and _called(node) == "time.sleep"
    ]

    assert not findings, report(findings)


def test_no_test_is_skipped_or_expected_to_fail() -> None:
    findings = [
        source.at(node, f"{name}: a test runs, or it is not here")
        for source in everything()
        if source.path.startswith("tests/")
        for node in ast.walk(source.tree)
        if (name := _dotted(node)).startswith("pytest.")
        and name.split(".")[-1] in {"skip", "skipif", "xfail", "importorskip"}
    ]

    assert not findings, report(findings)


def test_no_mock_library_is_used() -> None:
    findings = [
        source.at(node, "no mocks: use a fake that passes the contract tests")
        for source in everything()
        for node, name in imports(source)
        if name in {"mock", "unittest.mock", "pytest_mock"}
    ]

    assert not findings, report(findings)


def test_a_core_that_reads_the_clock_would_be_found() -> None:
    text = "from datetime import datetime\nasync def f() -> None:\n    datetime.now()\n"
    tree = ast.parse(text)
    planted = Source(path="planted.py", module="stepfold.core.planted", text=text, tree=tree)

    calls = [_called(node) for node in ast.walk(planted.tree) if isinstance(node, ast.Call)]

    assert calls == ["datetime.now"]
    assert any(isinstance(node, ASYNC_SYNTAX) for node in ast.walk(planted.tree))


def _called(node: ast.Call) -> str:
    return _dotted(node.func)


def _dotted(node: ast.AST) -> str:
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        before = _dotted(node.value)
        return f"{before}.{node.attr}" if before else ""
    return ""
