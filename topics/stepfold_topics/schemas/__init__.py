"""The Avro schemas: one file per kind of record, and the sets that releases shipped.

`<Kind>.avsc` beside this file is what is written now. `released/<version>/` holds what a
release wrote: those files never change, because logs of that release must stay readable.
"""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).parent
RELEASED_FOLDER = FOLDER / "released"


def present() -> dict[str, str]:
    """The text of each present schema, by its kind."""
    return _texts(FOLDER)


def released() -> dict[str, dict[str, str]]:
    """The texts of every released set, by version and kind."""
    if not RELEASED_FOLDER.is_dir():
        return {}
    folders = sorted(path for path in RELEASED_FOLDER.iterdir() if path.is_dir())
    return {folder.name: _texts(folder) for folder in folders}


def _texts(folder: Path) -> dict[str, str]:
    paths = sorted(folder.glob("*.avsc"))
    return {path.stem: path.read_text(encoding="utf-8") for path in paths}
