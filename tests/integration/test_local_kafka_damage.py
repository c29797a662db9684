"""Damaged data, and jars that are not the pinned ones: refused, named, left as they are."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from stepfold.core.errors import ConfigurationError, KafkaError
from stepfold.local import LocalKafka, artifacts, data
from stepfold.local.broker import BrokerPlan, why_it_died
from tests.commands import run
from tests.integration.conftest import KEPT_TOPIC

NOWHERE = "http://127.0.0.1:1"
SEGMENT = "00000000000000000000.log"
RECORDS = f"{KEPT_TOPIC}-0/{SEGMENT}"
METADATA = f"{data.METADATA_LOG}/{SEGMENT}"

Damage = Callable[[Path], None]


def write(name: str, text: str) -> Damage:
    def damage(folder: Path) -> None:
        (folder / name).write_text(text)

    return damage


def replace(name: str, old: str, new: str) -> Damage:
    def damage(folder: Path) -> None:
        text = (folder / name).read_text()
        assert old in text
        (folder / name).write_text(text.replace(old, new))

    return damage


def foreign_cluster(folder: Path) -> None:
    identity = data.identity_of(folder)
    assert identity is not None
    replace(data.META, identity.cluster_id, "A" * 22)(folder)


def halve(name: str) -> Damage:
    return lambda folder: os.truncate(folder / name, (folder / name).stat().st_size // 2)


def garble(name: str) -> Damage:
    def damage(folder: Path) -> None:
        with (folder / name).open("r+b") as file:
            file.seek(-20, os.SEEK_END)
            file.write(b"\xff" * 10)

    return damage


def lengthen(name: str) -> Damage:
    def damage(folder: Path) -> None:
        with (folder / name).open("ab") as file:
            file.write(bytes(100))

    return damage


def delete(name: str) -> Damage:
    return lambda folder: (folder / name).unlink()


def unsealed(damage: Damage) -> Damage:
    """As after a crash, when nobody noted how the logs were left."""

    def both(folder: Path) -> None:
        data.unseal(folder)
        damage(folder)

    return both


DAMAGES: dict[str, tuple[Damage, str, bool]] = {
    "meta garbage": (write(data.META, "\0\0"), "meta.properties is missing or cannot", False),
    "meta gone": (delete(data.META), "meta.properties is missing or cannot be read", False),
    "other cluster": (foreign_cluster, f"it belongs to cluster {'A' * 22}", False),
    "other broker": (replace(data.META, "node.id=1", "node.id=7"), "belongs to broker 7", False),
    "log cut": (halve(RECORDS), " when Kafka was stopped", True),
    "log garbled": (garble(RECORDS), "written to since Kafka was stopped", True),
    "log gone": (delete(RECORDS), "gone since Kafka was stopped", True),
    "log cut, crash": (unsealed(halve(RECORDS)), "the last record is cut off at byte", True),
    "log garbled, crash": (unsealed(garble(RECORDS)), "does not have its checksum", True),
    "log with zeros, crash": (unsealed(lengthen(RECORDS)), "no record at byte", True),
    "metadata cut": (halve(METADATA), " when Kafka was stopped", False),
    "metadata garbled": (garble(METADATA), "written to since Kafka was stopped", False),
    "metadata gone": (delete(METADATA), "gone since Kafka was stopped", False),
    "metadata cut, crash": (unsealed(halve(METADATA)), "the last record is cut off", False),
    "metadata garbled, crash": (unsealed(garble(METADATA)), "not have its checksum", False),
    "metadata gone, crash": (unsealed(delete(METADATA)), "what topics there are", False),
}


def files(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("name", DAMAGES)
def test_damaged_data_is_refused_with_folder_and_remedy_and_left_as_it_is(
    name: str, stopped_kafka: Path, tmp_path: Path
) -> None:
    damage, words, can_cut = DAMAGES[name]
    shutil.copytree(stopped_kafka, tmp_path / ".stepfold")
    folder = tmp_path / ".stepfold" / "kafka" / "broker-1" / "data"
    damage(folder)
    before = files(folder)

    with pytest.raises(KafkaError) as caught:
        LocalKafka(tmp_path / ".stepfold").start(cut_damage=not can_cut)

    message = str(caught.value)
    assert f"the data folder {folder} is damaged" in message
    assert words in message
    assert "stepfold kafka reset" in message
    assert ("--cut-damage" in message) is can_cut
    assert files(folder) == before


def test_sound_data_is_not_called_damaged(stopped_kafka: Path, tmp_path: Path) -> None:
    shutil.copytree(stopped_kafka, tmp_path / ".stepfold")
    folder = tmp_path / ".stepfold" / "kafka" / "broker-1" / "data"
    identity = data.identity_of(folder)
    assert identity is not None

    sealed = data.damage_of(folder, identity)
    data.unseal(folder)
    crashed = data.damage_of(folder, identity)

    assert (sealed, crashed) == (None, None)


def test_kafka_that_ran_there_by_other_means_is_no_damage(
    stopped_kafka: Path, tmp_path: Path
) -> None:
    shutil.copytree(stopped_kafka, tmp_path / ".stepfold")
    folder = tmp_path / ".stepfold" / "kafka" / "broker-1" / "data"
    identity = data.identity_of(folder)
    assert identity is not None
    log = folder / METADATA
    batches = log.read_bytes()
    os.truncate(log, 0)
    data.seal(folder)
    log.write_bytes(batches)

    assert data.damage_of(folder, identity) is None


def test_damage_is_an_exit_code_and_no_traceback(stopped_kafka: Path, tmp_path: Path) -> None:
    shutil.copytree(stopped_kafka, tmp_path / ".stepfold")
    halve(RECORDS)(tmp_path / ".stepfold" / "kafka" / "broker-1" / "data")

    ended = run("kafka", "start", cwd=tmp_path)

    assert (ended.code, ended.out) == (4, "")
    assert f"{tmp_path}/.stepfold/kafka/broker-1/data is damaged" in ended.err
    assert "Traceback" not in ended.err


def test_what_kafka_says_of_a_full_disk_or_a_port_is_told(tmp_path: Path) -> None:
    plan = BrokerPlan(node=1, port=9092, controller_port=9093, folder=tmp_path, voters=())

    said: list[str] = []
    for line in (
        "ERROR Error while writing to checkpoint file (x)\n"
        "java.io.IOException: No space left on device",
        "ERROR Socket server failed to bind to 127.0.0.1:9092: Address already in use.",
        "ERROR Exiting Kafka due to fatal exception (Kafka$)",
    ):
        plan.log.write_text(line)
        said.append(str(why_it_died(plan)))

    assert "the disk is full" in said[0]
    assert str(plan.data) in said[0]
    assert "9092 or 9093 was taken by another program" in said[1]
    assert "Exiting Kafka due to fatal exception" in said[2]
    assert str(plan.log) in said[2]


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A Maven repository with the pinned jars, as ~/.m2 would have them."""
    jars = {jar.name: jar for jar in artifacts.jars(lambda _: None)}
    folder = tmp_path / "m2"
    for coordinates in artifacts.locked():
        group, artifact, version = coordinates.split(":")
        name = f"{artifact}-{version}.jar"
        place = folder.joinpath(*group.split("."), artifact, version)
        place.mkdir(parents=True)
        (place / name).symlink_to(jars[name])
    return folder


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A new home with an empty cache, and no way out of this machine."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    for name in ("XDG_CACHE_HOME", "M2_REPO", "NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    for name in ("HTTPS_PROXY", "HTTP_PROXY", "https_proxy", "http_proxy"):
        monkeypatch.setenv(name, NOWHERE)
    return home


def test_new_home_gets_the_jars_that_the_user_s_repository_has(
    repository: Path, offline: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("M2_REPO", str(repository))
    said: list[str] = []

    first = artifacts.jars(said.append)
    second = artifacts.jars(said.append)

    assert first == second
    assert len(first) == len(artifacts.locked())
    assert len(said) == 1
    assert first[0].is_relative_to(offline / ".cache" / "stepfold")
    assert {path.suffix for path in first[0].parents[1].iterdir()} == {"", ".lock"}


def test_jar_that_differs_in_the_repository_is_not_taken(
    repository: Path, offline: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("M2_REPO", str(repository))
    jar = next(repository.rglob("jopt-simple-*.jar"))
    jar.unlink()
    jar.write_bytes(b"not the jar")

    with pytest.raises(ConfigurationError, match=r"jopt-simple:5\.0\.4 could not be fetched"):
        artifacts.jars(lambda _: None)

    assert jar.read_bytes() == b"not the jar"


def test_no_network_is_told_and_leaves_nothing_behind(offline: Path, tmp_path: Path) -> None:
    ended = run("kafka", "start", cwd=tmp_path)

    assert (ended.code, ended.out) == (3, "")
    assert "could not be fetched" in ended.err
    assert "check the network" in ended.err
    assert "STEPFOLD_KAFKA__BOOTSTRAP_SERVERS" in ended.err
    assert "Traceback" not in ended.err
    left = [path.name for path in (offline / ".cache" / "stepfold").iterdir()]
    assert left == ["kafka.lock"]


def test_jar_with_another_hash_is_refused_by_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jars = artifacts.jars(lambda _: None)
    cache = tmp_path / "cache" / "stepfold" / jars[0].parent.name
    cache.mkdir(parents=True)
    for jar in jars:
        (cache / jar.name).symlink_to(jar)
    wrong = cache / next(jar.name for jar in jars if jar.name.startswith("kafka-clients"))
    wrong.unlink()
    wrong.write_bytes(b"tampered with")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    ended = run("kafka", "start", "--json", cwd=tmp_path)

    assert (ended.code, ended.out) == (3, "")
    assert f"{wrong} (org.apache.kafka:kafka-clients:4.3.1) has SHA-256" in ended.err
    assert artifacts.locked()["org.apache.kafka:kafka-clients:4.3.1"] in ended.err
    assert f"delete {cache} and try again" in ended.err
    assert not (tmp_path / ".stepfold" / "kafka" / "brokers.json").exists()


def test_cache_for_faster_starts_is_of_these_jars_and_this_java(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    usual = artifacts.aot_cache(("-Xmx1g",))
    monkeypatch.setattr(artifacts, "locked", lambda: json.loads('{"a:b:1": "other"}'))

    assert artifacts.aot_cache(("-Xmx1g",)) != usual
    assert artifacts.aot_cache(()) != artifacts.aot_cache(("-Xmx1g",))
