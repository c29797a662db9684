"""Who may import whom, so that an event's way through the rooms has one direction.

A room that is not named here may be imported by nobody but a composition root: adding a room
means deciding who may know it.
"""

from __future__ import annotations

import ast
import sys

from tests.unit.house_sources import Source, imports, report, shipped

OURS = ("stepfold", "stepfold_projections", "stepfold_topics")

# Rooms that need no entry of their own: what a room imports from itself is its own business.
MAY_IMPORT = {
    "stepfold.core": set[str](),
    "stepfold.settings": {"stepfold.core"},
    "stepfold.telemetry": {"stepfold.core"},
    "stepfold.sdk": {"stepfold.core"},
    "stepfold.journal": {"stepfold.core", "stepfold_topics"},
    "stepfold.payloads": {"stepfold.core.errors"},
    "stepfold.client": {"stepfold.core", "stepfold.journal", "stepfold.sdk", "stepfold.settings"},
    "stepfold.engine": {
        "stepfold.core",
        "stepfold.journal",
        "stepfold.sdk",
        "stepfold.telemetry",
        "stepfold_topics",
    },
    # Nothing that decides or folds: the check would share the mistakes of what it checks.
    "stepfold.verify": {
        "stepfold.core.commands",
        "stepfold.core.errors",
        "stepfold.core.events",
        "stepfold.core.ids",
        "stepfold.journal.codec",
        "stepfold.journal.port",
    },
    "stepfold.local": {"stepfold.core", "stepfold.settings", "stepfold_topics"},
    "stepfold_projections": {
        "stepfold.core",
        "stepfold.journal",
        "stepfold.telemetry",
        "stepfold_topics",
    },
    "stepfold_topics": set[str](),
}

# The places that put the parts together, and so name the concrete ones.
COMPOSITION_ROOTS = (
    "stepfold",
    "stepfold.bench",
    "stepfold.cli",
    "stepfold.demo",
    "stepfold.engine.process",
    "stepfold.engine.supervisor",
    "stepfold.engine.worker",
    "stepfold.testing",
    "stepfold_projections.service",
)

# The only rooms that speak to Kafka's client library; everything else sees the journal's port.
SPEAK_KAFKA = (
    "stepfold.bench",
    "stepfold.cli",
    "stepfold.client",
    "stepfold.demo",
    "stepfold.journal",
    "stepfold.local",
    "stepfold_projections.service",
    "stepfold_topics",
)


def test_rooms_import_only_the_rooms_they_may_know() -> None:
    findings = [finding for source in shipped() for finding in _trespasses(source)]

    assert not findings, report(findings)


def test_a_trespass_would_be_found() -> None:
    assert len(_trespasses(_planted("stepfold.core.x", "import stepfold.engine.leader"))) == 1
    assert len(_trespasses(_planted("stepfold.sdk.x", "from stepfold import Client"))) == 1
    assert (
        len(_trespasses(_planted("stepfold_projections.x", "from stepfold.client import y"))) == 1
    )
    assert not _trespasses(_planted("stepfold_projections.x", "from stepfold.core import routing"))
    assert not _trespasses(_planted("stepfold.cli.x", "from stepfold.journal import kafka"))


def test_only_named_rooms_speak_to_the_kafka_client_library() -> None:
    findings = [
        source.at(node, f"confluent_kafka is known only in {', '.join(SPEAK_KAFKA)}")
        for source in shipped()
        if not _within(source.module, set(SPEAK_KAFKA))
        for node, name in imports(source)
        if name == "confluent_kafka" or name.startswith("confluent_kafka.")
    ]

    assert not findings, report(sorted(set(findings)))


def test_core_imports_the_standard_library_and_nothing_else() -> None:
    findings = [
        source.at(node, f"core is pure: {name} is not of the standard library")
        for source in shipped()
        if _within(source.module, {"stepfold.core"})
        for node, name in imports(source)
        if name.split(".")[0] not in sys.stdlib_module_names | {"stepfold"}
    ]

    assert not findings, report(findings)


def _trespasses(source: Source) -> list[str]:
    if _is_root(source):
        return []
    room = _room(source.module)
    allowed = MAY_IMPORT.get(room, set[str]()) | {room}
    findings: dict[int, str] = {}
    for node, name in imports(source):
        # `from stepfold.client import routing` names the package on the way to the module.
        is_on_the_way = "." in name and any(each.startswith(f"{name}.") for each in allowed)
        if _is_ours(name) and not is_on_the_way and not _within(name, allowed):
            findings[node.lineno] = source.at(node, f"{room} may not import {name}")
    return list(findings.values())


def _planted(module: str, text: str) -> Source:
    return Source(path="planted.py", module=module, text=text, tree=ast.parse(text))


def _room(module: str) -> str:
    parts = module.split(".")
    return ".".join(parts[:2]) if parts[0] == "stepfold" else parts[0]


def _is_root(source: Source) -> bool:
    return source.module == "stepfold" or _within(source.module, set(COMPOSITION_ROOTS[1:]))


def _is_ours(name: str) -> bool:
    return name.split(".")[0] in OURS


def _within(name: str, rooms: set[str]) -> bool:
    return any(name == room or name.startswith(f"{room}.") for room in rooms)
