"""Where a setting comes from, and what is said of a wrong one."""

from __future__ import annotations

from pathlib import Path

import pytest

from stepfold.core.errors import ConfigurationError
from stepfold.settings import MASK, load, shown, unknown_variables

TOML = """
api = "http://toml:1"
[kafka]
bootstrap_servers = "toml:9092"
[kafka.config]
security.protocol = "ssl"
"sasl.username" = "toml"
[worker]
processes = 3
"""


def test_each_source_wins_over_the_ones_below_it(tmp_path: Path) -> None:
    secret = tmp_path / "servers"
    secret.write_text("file:9092\n")
    (tmp_path / "stepfold.toml").write_text(TOML)
    (tmp_path / "pyproject.toml").write_text(
        '[tool.stepfold]\napi = "http://pyproject:1"\n'
        '[tool.stepfold.projections]\nlisten = "pyproject:1"\n'
    )
    environment = {
        "STEPFOLD_KAFKA__BOOTSTRAP_SERVERS_FILE": str(secret),
        "STEPFOLD_WORKER__PROCESSES": "5",
    }

    found = {each.name: (each.value, each.origin) for each in shown(environment, tmp_path)}

    assert found["worker.processes"] == ("5", "STEPFOLD_WORKER__PROCESSES")
    servers, origin = found["kafka.bootstrap_servers"]
    assert (servers, origin) == (
        "file:9092",
        f"STEPFOLD_KAFKA__BOOTSTRAP_SERVERS_FILE → {secret}",
    )
    assert found["api"] == ("http://toml:1", str(tmp_path / "stepfold.toml"))
    assert found["projections.listen"] == ("pyproject:1", str(tmp_path / "pyproject.toml"))
    assert found["worker.unsafe_dev"] == ("false", "default")


def test_keys_of_librdkafka_are_spelt_as_it_does_wherever_they_come_from(tmp_path: Path) -> None:
    (tmp_path / "stepfold.toml").write_text(TOML)
    environment = {
        "STEPFOLD_KAFKA__CONFIG__SASL_USERNAME": "environment",
        "STEPFOLD_KAFKA__CONFIG__LOG_LEVEL": "7",
    }

    found = load(environment, tmp_path)

    assert found.kafka.config == {
        "security.protocol": "ssl",
        "sasl.username": "environment",
        "log_level": "7",
    }


def test_empty_variable_is_as_good_as_none(tmp_path: Path) -> None:
    environment = {"STEPFOLD_API": "", "STEPFOLD_WORKER__NAME_FILE": "", "STEPFOLD_LOG_LEVEL": ""}

    assert load(environment, tmp_path) == load({}, tmp_path)


def test_log_level_may_be_written_in_small_letters(tmp_path: Path) -> None:
    assert load({"STEPFOLD_LOG_LEVEL": "debug"}, tmp_path).log_level == "DEBUG"


def test_secrets_are_shown_as_stars(tmp_path: Path) -> None:
    environment = {
        "STEPFOLD_KAFKA__CONFIG__SASL_PASSWORD": "hunter2",
        "STEPFOLD_PROJECTIONS__STORE": "postgresql://me:hunter/2@db/traces",
    }

    found = {each.name: each.value for each in shown(environment, tmp_path)}

    assert found["kafka.config.sasl.password"] == MASK
    assert found["projections.store"] == f"postgresql://me:{MASK}@db/traces"


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        (
            {"STEPFOLD_WORKER__PROCESSES": "many"},
            "setting worker.processes: Input should be a valid integer, unable to parse string as "
            "an integer, got 'many' (STEPFOLD_WORKER__PROCESSES); correct it there",
        ),
        (
            {"STEPFOLD_LOG_LEVEL": "loud"},
            "setting log_level: Input should be 'DEBUG', 'INFO', 'WARNING', 'ERROR' or "
            "'CRITICAL', got 'LOUD' (STEPFOLD_LOG_LEVEL); correct it there",
        ),
        (
            {"STEPFOLD_WORKER__PROCESES": "2"},
            "there is no setting worker.proceses (STEPFOLD_WORKER__PROCESES), did you mean "
            "worker.processes; correct or remove it there",
        ),
        (
            {"STEPFOLD_KAFA__BOOTSTRAP_SERVERS": "x"},
            "there is no setting kafa.bootstrap_servers (STEPFOLD_KAFA__BOOTSTRAP_SERVERS), did "
            "you mean kafka.bootstrap_servers; correct or remove it there",
        ),
        (
            {"STEPFOLD_API_FILE": "/no/such/file"},
            "STEPFOLD_API_FILE names the file '/no/such/file', which cannot be read: No such file "
            "or directory",
        ),
    ],
)
def test_wrong_variable_is_named_with_its_value_and_what_to_do(
    environment: dict[str, str], words: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load(environment, tmp_path)

    assert str(caught.value) == words


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[projections]\napps = [1]\n", "setting projections.apps.0: "),
        ("worker = 3\n", "setting worker: "),
        ("[worker]\ncolour = 3\n", "there is no setting worker.colour"),
        ("worker = \n", "cannot be read: Invalid value"),
    ],
)
def test_wrong_line_of_a_file_is_named_with_the_file(text: str, words: str, tmp_path: Path) -> None:
    path = tmp_path / "stepfold.toml"
    path.write_text(text)

    with pytest.raises(ConfigurationError) as caught:
        load({}, tmp_path)

    assert words in str(caught.value)
    assert str(path) in str(caught.value)


def test_wrong_setting_with_several_values_shows_none_of_them(tmp_path: Path) -> None:
    (tmp_path / "stepfold.toml").write_text('[api]\npassword = "hunter2"\n')

    with pytest.raises(ConfigurationError) as caught:
        load({}, tmp_path)

    assert "hunter2" not in str(caught.value)
    assert "got a dict" in str(caught.value)


def test_wrong_secret_is_not_shown(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load({"STEPFOLD_KAFKA__CONFIG": "sasl.password=hunter2"}, tmp_path)

    assert "hunter2" not in str(caught.value)


def test_pyproject_without_a_table_of_ours_sets_nothing(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text('tool = "none"\n')

    assert load({}, tmp_path) == load({}, tmp_path / "elsewhere")


def test_variables_that_are_about_no_setting_are_found() -> None:
    environment = {"STEPFOLD_LOGLEVEL": "x", "STEPFOLD_API": "http://x:1", "HOME": "/"}

    assert unknown_variables(environment) == ["STEPFOLD_LOGLEVEL"]
