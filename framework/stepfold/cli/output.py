"""Where output goes: data to stdout, as text or JSON, and prose to stderr."""

from __future__ import annotations

import json

import typer


def say(text: str) -> None:
    typer.echo(text, err=True)


def show(data: object, text: str, *, as_json: bool) -> None:
    typer.echo(json.dumps(data, default=str) if as_json else text)
