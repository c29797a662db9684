"""`stepfold config`: what is set, and by what."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from stepfold.cli.connection import AsJson
from stepfold.cli.output import say, show

app = typer.Typer(help="Settings.", no_args_is_help=True)


@app.callback()
def group() -> None:
    """Keeps `show` a subcommand, though it is the only one."""


@app.command("show")
def show_settings(
    origin: Annotated[bool, typer.Option("--origin", help="Where each value comes from.")] = False,
    as_json: AsJson = False,
) -> None:
    """Print the settings in force, secrets masked. Example: stepfold config show --origin"""
    from stepfold.settings import shown, unknown_variables

    found = shown(os.environ, Path.cwd())
    for variable in unknown_variables(os.environ):
        say(f"{variable} is about no setting")
    facts = [
        {"name": s.name, "value": s.value, **({"origin": s.origin} if origin else {})}
        for s in found
    ]
    width = max(len(setting.name) for setting in found)
    lines = [
        f"{s.name:<{width}}  {s.value or '-'}" + (f"  ({s.origin})" if origin else "")
        for s in found
    ]
    show(facts, "\n".join(lines), as_json=as_json)
