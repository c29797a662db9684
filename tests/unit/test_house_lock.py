"""The lock files pin every package by hash, and say nothing of where packages come from."""

from __future__ import annotations

import re
import tomllib
from typing import Any

import pytest

from tests.unit.house_sources import ROOT

LOCKS = ("requirements.lock", "requirements-dev.lock")
PINNED = re.compile(r"^([A-Za-z0-9._-]+)==([^ \\;]+)")


@pytest.mark.parametrize("name", LOCKS)
def test_each_requirement_is_pinned_with_its_hashes(name: str) -> None:
    requirements = _requirements(name)

    unpinned = [each for each in requirements if not PINNED.match(each)]
    unhashed = [each.split()[0] for each in requirements if "--hash=sha256:" not in each]

    assert requirements
    assert not unpinned, f"{name}: without a version: {unpinned}; run: make lock"
    assert not unhashed, f"{name}: without a hash: {unhashed}; run: make lock"


@pytest.mark.parametrize("name", LOCKS)
def test_no_lock_names_an_address_or_an_option(name: str) -> None:
    text = (ROOT / name).read_text()
    options = [line for line in text.splitlines() if line.startswith("--")]

    assert "://" not in text
    assert not options, f"{name}: options say where packages come from: {options}"


def test_the_demo_and_the_tests_use_the_same_versions() -> None:
    demo, everything = _versions("requirements.lock"), _versions("requirements-dev.lock")

    assert demo.items() <= everything.items(), set(demo.items()) - set(everything.items())


def test_everything_that_the_project_asks_for_is_locked() -> None:
    settings: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
    project = settings["project"]
    wanted = [
        *project["dependencies"],
        *settings["build-system"]["requires"],
        *settings["dependency-groups"]["dev"],
        *(each for extra in project["optional-dependencies"].values() for each in extra),
    ]
    names = {_canonical(re.split(r"[\[<>=!~; ]", each, maxsplit=1)[0]) for each in wanted}

    assert names <= _versions("requirements-dev.lock").keys(), "run: make lock"


def _requirements(name: str) -> list[str]:
    joined = (ROOT / name).read_text().replace("\\\n", " ")
    lines = [line.strip() for line in joined.splitlines()]
    return [line for line in lines if line and not line.startswith(("#", "--"))]


def _versions(name: str) -> dict[str, str]:
    found = [PINNED.match(each) for each in _requirements(name)]
    return {_canonical(each[1]): each[2] for each in found if each}


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
