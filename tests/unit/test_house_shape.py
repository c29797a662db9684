"""The size and the wording of what is in this repository.

A file that outgrows its limit has two subjects; a function that does has two purposes.
"""

from __future__ import annotations

import ast
import re
import subprocess
from functools import cache

import stepfold
from tests.unit.house_sources import ROOT, everything, report

FILE_LINES_MAX = 400
FUNCTION_LINES_MAX = 60
TEXT_BYTES_MAX = 2_000_000
# Names that say nothing about what is inside.
EMPTY_NAMES = {"base", "common", "helpers", "manager", "misc", "utils"}
TEXT_SUFFIXES = {
    "", ".avsc", ".cfg", ".css", ".html", ".js", ".json", ".lock", ".md", ".mjs", ".py", ".sh",
    ".toml", ".ts", ".tsx", ".txt", ".yaml", ".yml",
}  # fmt: skip

# This file holds what it looks for, and is the only one that may.
HERE = "tests/unit/test_house_shape.py"
UNFINISHED = re.compile(r"\b(TODO|FIXME|XXX)\b")
MACHINE_PATH = re.compile(r"(?<![\w.$}/~-])/(work|root|home/\w+)/|\.\./shared\b|/tmp/\w")
REGISTRY = re.compile(
    r"pypi\.org|pythonhosted\.org|registry\.npmjs|repo1?\.maven\.|maven\.(org|apache)\.org"
    r"|crates\.io|proxy\.golang"
)


def test_files_stay_below_their_limit() -> None:
    findings = [
        source.at(lines, f"{lines} lines, {FILE_LINES_MAX} at most: it has two subjects")
        for source in everything()
        if (lines := source.text.count("\n")) > FILE_LINES_MAX
    ]

    assert not findings, report(findings)


def test_functions_stay_below_their_limit() -> None:
    findings = [
        source.at(node, f"{node.name} has {lines} lines, {FUNCTION_LINES_MAX} at most")
        for source in everything()
        for node in ast.walk(source.tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        if (lines := (node.end_lineno or node.lineno) - node.lineno + 1) > FUNCTION_LINES_MAX
    ]

    assert not findings, report(findings)


def test_modules_say_what_a_reader_could_not_guess() -> None:
    findings = [
        source.at(1, "a module starts with its docstring: purpose, rule, reason")
        for source in everything()
        if source.text.strip() and ast.get_docstring(source.tree) is None
    ]

    assert not findings, report(findings)


def test_modules_have_a_subject_in_their_name() -> None:
    findings = [
        source.at(1, f"{name!r} names no subject")
        for source in everything()
        for name in source.module.split(".")
        if EMPTY_NAMES & set(name.split("_"))
    ]

    assert not findings, report(findings)


def test_nothing_is_left_unfinished() -> None:
    assert not (found := _found(UNFINISHED, "unfinished work is an issue, not a comment")), found


def test_no_path_of_one_machine_is_in_the_repository() -> None:
    rule = "a path of one machine: take it from a setting or a temporary folder"

    assert not (found := _found(MACHINE_PATH, rule)), found


def test_no_address_of_a_package_registry_is_in_the_repository() -> None:
    rule = "where packages come from is the business of the machine that installs them"

    assert not (found := _found(REGISTRY, rule)), found


def test_every_public_name_exists_once() -> None:
    missing = [name for name in stepfold.__all__ if not hasattr(stepfold, name)]

    assert not missing, f"in stepfold.__all__, but not there: {', '.join(missing)}"
    assert len(set(stepfold.__all__)) == len(stepfold.__all__)


def test_the_words_of_one_machine_would_be_found() -> None:
    assert MACHINE_PATH.search("see /work/main/file")
    assert MACHINE_PATH.search("see ../shared/style.md")
    assert not MACHINE_PATH.search("the route /api/v1/work/items and ~/work/x")
    assert REGISTRY.search("https://pypi.org/simple")
    assert UNFINISHED.search("# TODO later")


def _found(pattern: re.Pattern[str], rule: str) -> str:
    findings = [
        f"{path}:{number}: {rule}: {line.strip()[:80]}"
        for path, text in _texts()
        for number, line in enumerate(text.splitlines(), start=1)
        if pattern.search(line)
    ]
    return report(findings) if findings else ""


@cache
def _texts() -> tuple[tuple[str, str], ...]:
    """Each text file that git tracks or would track."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
        timeout=30,
    ).stdout
    paths = [ROOT / name for name in listed.split("\0") if name]
    return tuple(
        (path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8"))
        for path in paths
        if path.is_file() and path != ROOT / HERE and path.suffix in TEXT_SUFFIXES
        if path.stat().st_size < TEXT_BYTES_MAX and "web/dist" not in path.as_posix()
    )
