"""The Python files of this repository, parsed once, for the tests that hold the house rules."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SOURCE_ROOTS = ("framework", "projections", "topics")
OTHER_ROOTS = ("tests", "examples", ".ci")


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    path: str
    """Relative to the repository, as a message names it."""
    module: str
    text: str
    tree: ast.Module

    def at(self, node: ast.AST | int, rule: str) -> str:
        line = node if isinstance(node, int) else getattr(node, "lineno", 1)
        return f"{self.path}:{line}: {rule}"


@cache
def shipped() -> tuple[Source, ...]:
    return tuple(each for root in SOURCE_ROOTS for each in _below(root))


@cache
def everything() -> tuple[Source, ...]:
    return shipped() + tuple(each for root in OTHER_ROOTS for each in _below(root))


def imports(source: Source) -> Iterator[tuple[ast.stmt, str]]:
    """Each module that is imported anywhere in the file, also inside functions.

    `from a import b` gives `a.b` as well as `a`, for `b` may be a module.
    """
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node, alias.name
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            yield node, node.module
            for alias in node.names:
                yield node, f"{node.module}.{alias.name}"


def report(findings: list[str]) -> str:
    return "\n" + "\n".join(findings)


def _below(root: str) -> Iterator[Source]:
    base = ROOT / root
    for path in sorted(base.rglob("*.py")):
        if "node_modules" in path.parts:
            continue
        text = path.read_text(encoding="utf-8")
        inside = path.relative_to(base if root in SOURCE_ROOTS else ROOT).with_suffix("")
        parts = inside.parts[:-1] if inside.name == "__init__" else inside.parts
        yield Source(
            path=path.relative_to(ROOT).as_posix(),
            module=".".join(parts),
            text=text,
            tree=ast.parse(text, filename=str(path)),
        )
