"""FULL_TRANSITIVE: every schema reads what every released one wrote, and the other way round.

A log outlives the code: an old process may meet new events while a deploy is under way,
and new code meets old events for ever. So schemas only grow, by fields that have a
default. `python -m stepfold_topics.compatibility` prints what breaks the rule and exits
with 1; with `release VERSION` it keeps the present set as what that version wrote.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any, cast

from stepfold_topics import schemas

EXIT_OK = 0
EXIT_INCOMPATIBLE = 1
EXIT_USAGE = 2


def problems_of_all() -> list[str]:
    """Between the present set and every released one; empty when all is well."""
    present = schemas.present()
    found: list[str] = []
    for version, texts in schemas.released().items():
        found += [f"{version}: {problem}" for problem in problems_of_sets(texts, present)]
    return found


def problems_of_sets(released: Mapping[str, str], present: Mapping[str, str]) -> list[str]:
    """Both map a kind to the text of its schema."""
    found: list[str] = []
    for kind, text in released.items():
        if kind not in present:
            found.append(f"{kind}: removed, but logs hold records of it")
        else:
            found += problems(json.loads(text), json.loads(present[kind]))
    return found


def problems(old: object, new: object) -> list[str]:
    """Why one of the two could not read what the other wrote."""
    return _compare(old, new, _name(old))


def release(version: str) -> None:
    """Keep the present set as what `version` wrote. Raises FileExistsError: it is fixed."""
    folder = schemas.RELEASED_FOLDER / version
    folder.mkdir(parents=True)
    for kind, text in schemas.present().items():
        (folder / f"{kind}.avsc").write_text(text, encoding="utf-8")


def main(arguments: Sequence[str]) -> int:
    found = problems_of_all()
    for problem in found:
        sys.stderr.write(f"{problem}\n")
    if found:
        return EXIT_INCOMPATIBLE
    match arguments:
        case []:
            return EXIT_OK
        case ["release", version]:
            release(version)
            return EXIT_OK
        case _:
            sys.stderr.write("usage: python -m stepfold_topics.compatibility [release VERSION]\n")
            return EXIT_USAGE


def _compare(old: object, new: object, where: str) -> list[str]:
    old, new = _type_of(old), _type_of(new)
    if _is_kind(old, "record") and _is_kind(new, "record"):
        return _compare_records(cast("Any", old), cast("Any", new), where)
    if _is_kind(old, "array") and _is_kind(new, "array"):
        return _compare(cast("Any", old)["items"], cast("Any", new)["items"], f"{where}[]")
    if old == new:
        return []
    # A promotion, such as int to long, works one way only.
    return [f"{where}: type changed from {json.dumps(old)} to {json.dumps(new)}"]


def _compare_records(old: Mapping[str, Any], new: Mapping[str, Any], where: str) -> list[str]:
    found: list[str] = []
    if _name(old) != _name(new):
        found.append(f"{where}: renamed to {_name(new)}")
    old_fields = {field["name"]: field for field in old["fields"]}
    new_fields = {field["name"]: field for field in new["fields"]}
    for name, field in old_fields.items():
        if name in new_fields:
            found += _compare(field["type"], new_fields[name]["type"], f"{where}.{name}")
        elif "default" not in field:
            found.append(f"{where}.{name}: removed, but it had no default")
    found += [
        f"{where}.{name}: added without a default"
        for name, field in new_fields.items()
        if name not in old_fields and "default" not in field
    ]
    return found


def _is_kind(schema: object, kind: str) -> bool:
    return isinstance(schema, dict) and cast("dict[str, Any]", schema).get("type") == kind


def _type_of(schema: object) -> object:
    """Without what has no say in reading: descriptions, and a type that is only wrapped."""
    if not isinstance(schema, dict):
        return schema
    fields = cast("dict[str, Any]", schema)
    kept = {key: value for key, value in fields.items() if key not in ("doc", "aliases")}
    return kept["type"] if kept.keys() == {"type"} else kept


def _name(schema: object) -> str:
    if not isinstance(schema, Mapping):
        return str(schema)
    fields = cast("Mapping[str, Any]", schema)
    parts = (fields.get("namespace", ""), fields.get("name", ""))
    return ".".join(part for part in parts if part)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
