"""The files that nobody could run here at least parse, and their parts fit together."""

from __future__ import annotations

import re
from typing import Any, cast

import yaml

from tests.unit.house_sources import ROOT

DEPLOY = ROOT / "deploy"


def test_dockerfile_copies_only_what_is_there() -> None:
    copied = [
        name
        for line in _instructions("COPY")
        if "--from=" not in line
        for name in line.split()[1:-1]
    ]

    missing = [name for name in copied if not (ROOT / name).exists()]

    assert copied
    assert not missing, f"deploy/Dockerfile copies what is not there: {missing}"


def test_dockerfile_installs_by_hash_and_runs_as_nobody_special() -> None:
    installs = [line for line in _instructions("RUN") if "pip install" in line]

    assert installs
    assert all("--require-hashes" in line for line in installs)
    assert _instructions("USER") == ["USER stepfold"]


def test_compose_services_wait_for_services_that_are_there() -> None:
    services = _services()

    for name, service in services.items():
        unknown = set(service.get("depends_on", {})) - services.keys()
        assert not unknown, f"{name} depends on {unknown}"


def test_compose_names_the_broker_that_it_starts() -> None:
    services = _services()

    for name in ("topics", "worker", "projections"):
        servers = services[name]["environment"]["STEPFOLD_KAFKA__BOOTSTRAP_SERVERS"]
        assert servers.split(":")[0] in services


def test_compose_offers_ports_to_this_machine_only() -> None:
    ports = [port for service in _services().values() for port in service.get("ports", [])]

    assert ports
    assert all(str(port).startswith("127.0.0.1:") for port in ports)


def test_compose_mounts_only_volumes_that_it_declares() -> None:
    mounted = {
        str(volume).split(":")[0]
        for service in _services().values()
        for volume in service.get("volumes", [])
    }
    named = {name for name in mounted if not name.startswith((".", "/"))}

    assert named == set(_compose()["volumes"])
    assert all((DEPLOY / name).exists() for name in mounted - named)


def _compose() -> dict[str, Any]:
    return cast("dict[str, Any]", yaml.safe_load((DEPLOY / "compose.yaml").read_text()))


def _services() -> dict[str, dict[str, Any]]:
    return cast("dict[str, dict[str, Any]]", _compose()["services"])


def _instructions(word: str) -> list[str]:
    text = re.sub(r"\\\n\s*", "", (DEPLOY / "Dockerfile").read_text())
    return [line for line in text.splitlines() if line.startswith(f"{word} ")]
