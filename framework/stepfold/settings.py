"""Settings, and where each came from.

A flag wins over the environment, that over a secret's file, that over `stepfold.toml`,
that over `[tool.stepfold]` in `pyproject.toml`, that over the default. Nested names are
joined by two underscores: STEPFOLD_KAFKA__BOOTSTRAP_SERVERS. A variable with `_FILE`
behind its name holds the path of a file with the value, as container platforms mount
secrets. `kafka.config` takes any key of librdkafka; in variables, where dots cannot be,
underscores stand for them: STEPFOLD_KAFKA__CONFIG__SASL_PASSWORD. An empty variable is as
good as none.
"""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple, cast

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from stepfold.core.decide import MAX_LOST
from stepfold.core.errors import ConfigurationError

PREFIX = "STEPFOLD_"
DELIMITER = "__"
KAFKA_CONFIG = "kafka.config."
FILE_SUFFIX = "_FILE"
TOML = Path("stepfold.toml")
PYPROJECT = Path("pyproject.toml")
SECRET_WORDS = ("password", "secret", "token", "key.pem", "oauthbearer.config")
MASK = "********"
URL_PASSWORD = re.compile(r"(://[^/@:]*:)[^@]+(@)")
UNDERSCORED = {"log.level": "log_level"}
"""The keys of librdkafka that are not spelt with dots alone."""
PROCESSES_MAX = 256

Tree = dict[str, Any]


class KafkaSettings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    bootstrap_servers: str | None = None
    """None: the local Kafka of the state folder."""
    config: dict[str, str] = Field(default_factory=dict)
    """Further librdkafka settings, such as credentials; those of the protocol are refused."""

    @field_validator("config", mode="before")
    @classmethod
    def _flatten(cls, value: object) -> object:
        if not isinstance(value, Mapping):
            return value
        leaves = _leaves(cast("Mapping[str, Any]", value))
        return {_kafka_key(key): _text(leaf) for key, leaf in leaves}


class WorkerSettings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    processes: int = Field(default=1, ge=1, le=PROCESSES_MAX)
    name: str | None = None
    """Stable over restarts; None: the host's name."""
    unsafe_dev: bool = False
    """Accept topics with a single replica."""
    max_lost: int = Field(default=MAX_LOST, ge=2, le=25)
    """Lost attempts of a step at which its run is parked; the last ones run in a process of
    their own."""
    isolated_max: int = Field(default=4, ge=1, le=64)
    """Attempts that run in processes of their own at once, for each worker process."""
    isolated_memory_mb: int = Field(default=2_048, ge=0)
    """What such a process may allocate; 0: whatever there is."""
    health: str | None = None
    """HOST:PORT of /livez, /readyz and /metrics; the second worker process takes the next port,
    and so on. None: no such server."""


class ProjectionSettings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    store: str = "sqlite:///.stepfold/traces.db"
    listen: str = "127.0.0.1:8484"
    apps: tuple[str, ...] = ()
    """Apps to project, in variables separated by commas; empty: all that have an inbox."""

    @field_validator("apps", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        return [name.strip() for name in value.split(",") if name.strip()]


class Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    kafka: KafkaSettings = KafkaSettings()
    worker: WorkerSettings = WorkerSettings()
    projections: ProjectionSettings = ProjectionSettings()
    api: str = "http://127.0.0.1:8484"
    """Where `stepfold runs` finds the HTTP API."""
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"] = "INFO"

    @field_validator("log_level", mode="before")
    @classmethod
    def _in_capitals(cls, value: object) -> object:
        return value.upper() if isinstance(value, str) else value


class Setting(NamedTuple):
    """A value that is in force, secrets masked."""

    name: str
    value: str
    origin: str


class _Source(NamedTuple):
    """Values by their dotted name; `origin_of` tells a person where to look."""

    values: Mapping[str, Any]
    origins: Mapping[str, str]


def settings() -> Settings:
    """The settings in force here and now. Raises ConfigurationError that names the wrong one."""
    return load(os.environ, Path.cwd())


def load(environment: Mapping[str, str], folder: Path) -> Settings:
    """Raises ConfigurationError that names the wrong setting and where it is."""
    sources = _sources(environment, folder)
    merged: Tree = {}
    for source in reversed(sources):
        for name, value in source.values.items():
            _put(merged, name, value)
    try:
        return Settings.model_validate(merged)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(map(str, first["loc"]))
        where = _origin(name, sources)
        if first["type"] == "extra_forbidden":
            name, where = _whole(name, sources)
            raise ConfigurationError(
                f"there is no setting {name} ({where}){_meant(name)}; correct or remove it there"
            ) from error
        raise ConfigurationError(
            f"setting {name}: {first['msg']}, got {_shown(name, first['input'])} ({where}); "
            "correct it there"
        ) from error


def shown(environment: Mapping[str, str], folder: Path) -> list[Setting]:
    """Every setting that is in force, with its origin."""
    sources = _sources(environment, folder)
    return [
        Setting(name, _masked(name, value), _origin(name, sources))
        for name, value in _leaves(load(environment, folder).model_dump())
    ]


def unknown_variables(environment: Mapping[str, str]) -> list[str]:
    """Those that bear our prefix and are about no setting, perhaps by a typing error."""
    return sorted(
        variable
        for variable in environment
        if variable.startswith(PREFIX) and _name_of(variable.removesuffix(FILE_SUFFIX)) is None
    )


def _sources(environment: Mapping[str, str], folder: Path) -> list[_Source]:
    """Highest priority first."""
    return [
        _from_environment(environment),
        _from_files(environment),
        _from_toml(folder / TOML, ()),
        _from_toml(folder / PYPROJECT, ("tool", "stepfold")),
    ]


def _from_environment(environment: Mapping[str, str]) -> _Source:
    named = {
        _name_of(variable): variable
        for variable, value in environment.items()
        if value and not _is_of_file(variable)
    }
    known = {name: variable for name, variable in named.items() if name is not None}
    return _Source({name: environment[variable] for name, variable in known.items()}, known)


def _from_files(environment: Mapping[str, str]) -> _Source:
    values: Tree = {}
    origins: dict[str, str] = {}
    for variable, path in environment.items():
        name = _name_of(variable.removesuffix(FILE_SUFFIX)) if _is_of_file(variable) else None
        if name is None or not path:
            continue
        try:
            values[name] = Path(path).read_text().strip()
        except OSError as error:
            raise ConfigurationError(
                f"{variable} names the file {path!r}, which cannot be read: {error.strerror}"
            ) from error
        origins[name] = f"{variable} → {path}"
    return _Source(values, origins)


def _is_of_file(variable: str) -> bool:
    return variable.endswith(FILE_SUFFIX)


def _name_of(variable: str) -> str | None:
    """The setting that a variable is about; None when it is about none.

    What looks like one is kept, so that a typing error in it is reported.
    """
    if not variable.startswith(PREFIX):
        return None
    parts = variable.removeprefix(PREFIX).lower().split(DELIMITER)
    if len(parts) == 1 and parts[0] not in Settings.model_fields:
        return None
    if parts[:2] == ["kafka", "config"] and len(parts) > 2:
        return f"{KAFKA_CONFIG}{_kafka_key('.'.join(parts[2:]))}"
    return ".".join(parts)


def _kafka_key(name: str) -> str:
    dotted = name.replace("_", ".")
    return UNDERSCORED.get(dotted, dotted)


def _from_toml(path: Path, table: Iterable[str]) -> _Source:
    try:
        tree: Tree = tomllib.loads(path.read_text())
    except FileNotFoundError:
        return _Source({}, {})
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{path} cannot be read: {error}") from error
    for name in table:
        below = tree.get(name)
        tree = cast("Tree", below) if isinstance(below, dict) else {}
    values = {_spelt(name): value for name, value in _leaves(tree)}
    return _Source(values, dict.fromkeys(values, str(path)))


def _spelt(name: str) -> str:
    """Keys of librdkafka as it spells them, however a table has nested them."""
    if not name.startswith(KAFKA_CONFIG):
        return name
    return f"{KAFKA_CONFIG}{_kafka_key(name.removeprefix(KAFKA_CONFIG))}"


def _put(tree: Tree, name: str, value: object) -> None:
    """Into the place that the dotted name means; all below kafka.config is one key."""
    parts = name.split(".")
    if name.startswith(KAFKA_CONFIG):
        parts = ["kafka", "config", name.removeprefix(KAFKA_CONFIG)]
    for part in parts[:-1]:
        below = tree.setdefault(part, {})
        if not isinstance(below, dict):
            below = tree[part] = {}
        tree = cast("Tree", below)
    tree[parts[-1]] = value


def _origin(name: str, sources: Iterable[_Source]) -> str:
    """Of the setting, or of what it is a part of: `projections.apps` for its first name."""
    every = list(sources)
    while name:
        for source in every:
            if name in source.origins:
                return source.origins[name]
        name = name.rpartition(".")[0]
    return "default"


def _whole(part: str, sources: Iterable[_Source]) -> tuple[str, str]:
    """A setting of which this is the beginning, and its origin."""
    return next(
        (name, origin)
        for source in sources
        for name, origin in source.origins.items()
        if name == part or name.startswith(f"{part}.")
    )


def _meant(name: str) -> str:
    near = difflib.get_close_matches(name, [n for n, _ in _leaves(Settings().model_dump())], 1)
    return f", did you mean {near[0]}" if near else ""


def _shown(name: str, value: object) -> str:
    """For messages: what holds several values may hold a secret among them."""
    if isinstance(value, str | int | float) and not KAFKA_CONFIG.startswith(name):
        return repr(_masked(name, value))
    return f"a {type(value).__name__}"


def _masked(name: str, value: object) -> str:
    is_secret = any(word in name.lower() for word in SECRET_WORDS)
    return MASK if is_secret and value else URL_PASSWORD.sub(rf"\1{MASK}\2", _text(value))


def _text(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (list, tuple)):
        return ",".join(map(str, cast("Iterable[object]", value)))
    return "" if value is None else str(value)


def _leaves(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _leaves(cast("Mapping[str, Any]", value), f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
