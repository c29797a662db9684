"""Settings, and where each came from.

A flag wins over the environment, that over a secret's file, that over `stepfold.toml`,
that over `[tool.stepfold]` in `pyproject.toml`, that over the default. Nested names are
joined by two underscores: STEPFOLD_KAFKA__BOOTSTRAP_SERVERS. A variable with `_FILE`
behind its name holds the path of a file with the value, as container platforms mount
secrets. `kafka.config` takes any key of librdkafka; in variables, where dots cannot be,
underscores stand for them: STEPFOLD_KAFKA__CONFIG__SASL_PASSWORD.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, cast

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from stepfold.core.decide import MAX_LOST
from stepfold.core.errors import ConfigurationError

PREFIX = "STEPFOLD_"
DELIMITER = "__"
FILE_SUFFIX = "_FILE"
TOML = Path("stepfold.toml")
PYPROJECT = Path("pyproject.toml")
SECRET_WORDS = ("password", "secret", "token", "key.pem", "oauthbearer.config")
MASK = "********"
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
        return {key.replace("_", "."): _text(leaf) for key, leaf in leaves}


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
    log_level: str = "INFO"


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
        raise ConfigurationError(
            f"setting {name}: {first['msg']}, got {_masked(name, first['input'])!r} "
            f"({_origin(name, sources)}); see all with: stepfold config show --origin"
        ) from error


def shown(environment: Mapping[str, str], folder: Path) -> list[Setting]:
    """Every setting that is in force, with its origin."""
    sources = _sources(environment, folder)
    return [
        Setting(name, _masked(name, value), _origin(name, sources))
        for name, value in _leaves(load(environment, folder).model_dump())
    ]


def _sources(environment: Mapping[str, str], folder: Path) -> list[_Source]:
    """Highest priority first."""
    return [
        _from_environment(environment),
        _from_files(environment),
        _from_toml(folder / TOML, ()),
        _from_toml(folder / PYPROJECT, ("tool", "stepfold")),
    ]


def _from_environment(environment: Mapping[str, str]) -> _Source:
    named = {_name_of(variable): variable for variable in environment if not _is_of_file(variable)}
    known = {name: variable for name, variable in named.items() if name is not None}
    return _Source({name: environment[variable] for name, variable in known.items()}, known)


def _from_files(environment: Mapping[str, str]) -> _Source:
    values: Tree = {}
    origins: dict[str, str] = {}
    for variable, path in environment.items():
        name = _name_of(variable.removesuffix(FILE_SUFFIX)) if _is_of_file(variable) else None
        if name is None:
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

    Unknown names of a group are kept, so that a typing error in them is reported.
    """
    if not variable.startswith(PREFIX):
        return None
    parts = variable.removeprefix(PREFIX).lower().split(DELIMITER)
    if parts[0] not in Settings.model_fields:
        return None
    if parts[:2] == ["kafka", "config"] and len(parts) > 2:
        return "kafka.config." + ".".join(parts[2:]).replace("_", ".")
    return ".".join(parts)


def _from_toml(path: Path, table: Iterable[str]) -> _Source:
    try:
        tree: Any = tomllib.loads(path.read_text())
    except FileNotFoundError:
        return _Source({}, {})
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{path} cannot be read: {error}") from error
    for name in table:
        tree = tree.get(name, {})
    values = dict(_leaves(tree))
    return _Source(values, dict.fromkeys(values, str(path)))


def _put(tree: Tree, name: str, value: object) -> None:
    """Into the place that the dotted name means; all below kafka.config is one key."""
    prefix = "kafka.config."
    parts = name.split(".")
    if name.startswith(prefix):
        parts = ["kafka", "config", name.removeprefix(prefix)]
    for part in parts[:-1]:
        below = tree.setdefault(part, {})
        if not isinstance(below, dict):
            below = tree[part] = {}
        tree = cast("Tree", below)
    tree[parts[-1]] = value


def _origin(name: str, sources: Iterable[_Source]) -> str:
    return next((s.origins[name] for s in sources if name in s.origins), "default")


def _masked(name: str, value: object) -> str:
    is_secret = any(word in name.lower() for word in SECRET_WORDS)
    return MASK if is_secret and value else _text(value)


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
