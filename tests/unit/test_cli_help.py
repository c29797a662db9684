"""What every command owes its users: help with an example, and JSON where it prints data."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import typer.main
from typer.core import TyperGroup

from stepfold.cli.commands import app, run
from stepfold.cli.missing import MISSING

PRINTS_NO_DATA = {"worker", "projections"}


def commands() -> Iterator[tuple[str, Any]]:
    """Each command that does something, by its words."""
    yield from _below(typer.main.get_command(app), ())


def _below(command: Any, path: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
    if path and (not isinstance(command, TyperGroup) or command.invoke_without_command):
        yield " ".join(path), command
    for name, part in getattr(command, "commands", {}).items():
        yield from _below(part, (*path, name))


@pytest.mark.parametrize("name", [name for name, _ in commands()])
def test_help_of_each_command_shows_an_example_of_it(name: str) -> None:
    command = dict(commands())[name]

    assert f"Example: stepfold {name}" in " ".join((command.help or "").split())


@pytest.mark.parametrize("name", [name for name, _ in commands() if name not in PRINTS_NO_DATA])
def test_each_command_that_prints_data_prints_json_as_well(name: str) -> None:
    command = dict(commands())[name]

    assert "--json" in [option for parameter in command.params for option in parameter.opts]


@pytest.mark.parametrize("name", MISSING)
def test_command_that_is_not_built_says_what_to_do_instead(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["stepfold", *name.split(), "something"])
    monkeypatch.setenv("COLUMNS", "300")

    with pytest.raises(SystemExit) as ended:
        run()

    assert ended.value.code == 2
    assert f"'{name}' is not in this version of stepfold. Instead, " in capsys.readouterr().err
