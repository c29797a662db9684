"""Kafka on this machine, as a user meets it: started, killed, and started again."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from confluent_kafka.admin import AdminClient

from stepfold.core.errors import KafkaError
from stepfold.local import LocalKafka, cluster
from stepfold.local.state import is_alive, read_state
from tests.commands import Ended, begin, run, until
from tests.integration.conftest import KEPT_TOPIC
from tests.kafka_fixture import free_port

WAIT_S = 30.0


class Home:
    """A working directory of its own, with `.stepfold` in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.kafka = folder / ".stepfold" / "kafka"
        self.note = self.kafka / "brokers.json"
        self.port = free_port()

    def start(self, *more: str) -> Ended:
        return self.run("start", "--port", str(self.port), "--json", *more)

    def run(self, *arguments: str) -> Ended:
        return run("kafka", *arguments, cwd=self.folder)

    def begin(self) -> subprocess.Popen[str]:
        return begin("kafka", "start", "--port", str(self.port), cwd=self.folder)

    def living(self) -> list[int]:
        state = read_state(self.kafka)
        return [b.pid for b in state.brokers if is_alive(b)] if state is not None else []


class Running(NamedTuple):
    home: Home
    start: Ended


@pytest.fixture(scope="module")
def running(stopped_kafka: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A broker on a copy of that state, started while its port was in use and its note gone."""
    home = Home(tmp_path_factory.mktemp("running"))
    shutil.copytree(stopped_kafka, home.folder / ".stepfold")
    home.note.unlink()
    with socket.socket() as rival:
        rival.bind(("127.0.0.1", home.port))
        rival.listen()
        ended = home.start()
    yield Running(home, ended)
    LocalKafka(home.folder / ".stepfold").stop()


@pytest.fixture
def home(tmp_path: Path, stopped_kafka: Path) -> Iterator[Home]:
    """With a copy of that state; whatever runs there at the end is stopped."""
    shutil.copytree(stopped_kafka, tmp_path / ".stepfold")
    home = Home(tmp_path)
    yield home
    LocalKafka(tmp_path / ".stepfold").stop()


def facts(ended: Ended) -> Any:
    assert ended.code == 0, ended
    return json.loads(ended.out)


def topics(address: str) -> set[str]:
    admin = AdminClient({"bootstrap.servers": address})
    return set(admin.list_topics(timeout=WAIT_S).topics)


def test_data_is_found_again_though_its_note_is_gone(
    running: Running, record_property: Callable[[str, object], None]
) -> None:
    begun = facts(running.start)

    record_property("ready_s", begun["ready_s"])
    assert begun["started"] is True
    assert KEPT_TOPIC in topics(begun["bootstrap_servers"])


def test_port_in_use_is_passed_over_and_told(running: Running) -> None:
    moved = int(facts(running.start)["bootstrap_servers"].rpartition(":")[2])

    assert moved > running.home.port
    assert f"port {running.home.port} is in use, Kafka listens on {moved}" in running.start.err


def test_brokers_outlive_their_command_and_a_second_start_says_so(running: Running) -> None:
    second, status = running.home.start(), running.home.run("status", "--json")

    (pid,) = facts(running.start)["pids"]
    assert (facts(second)["pids"], facts(second)["started"]) == ([pid], False)
    assert "Kafka is running already" in second.err
    assert facts(status)["pids"] == [pid]
    assert os.getsid(pid) == pid


def test_what_would_break_running_brokers_is_refused(running: Running) -> None:
    three, reset = running.home.start("--brokers", "3"), running.home.run("reset")

    assert (three.code, reset.code) == (6, 6)
    assert "holds a cluster of 1 brokers, 3 were asked for" in three.err
    assert "are running; `stepfold kafka stop` first" in reset.err


def test_data_in_use_by_a_broker_that_nobody_noted_is_left_alone(running: Running) -> None:
    pids, text = running.home.living(), running.home.note.read_text()
    running.home.note.unlink()

    start, reset = running.home.start(), running.home.run("reset")
    running.home.note.write_text(text)

    assert (start.code, reset.code) == (6, 6)
    assert "has no note of" in start.err
    assert running.home.living() == pids


def test_two_starts_at_one_moment_start_one_broker_which_is_stopped_once(home: Home) -> None:
    both = [begin("kafka", "start", "--json", cwd=home.folder) for _ in range(2)]
    ended = [process.communicate(timeout=WAIT_S) for process in both]
    living = home.living()
    stops = [home.run("stop"), home.run("stop")]

    assert [process.returncode for process in both] == [0, 0], ended
    found = [json.loads(out) for out, _ in ended]
    assert found[0]["pids"] == found[1]["pids"] == living
    assert sorted(one["started"] for one in found) == [False, True]
    assert [each.out for each in stops] == ["stopped\n", "nothing was running\n"]


def test_neither_a_killed_command_nor_a_killed_broker_is_in_the_way_of_the_next_start(
    home: Home,
) -> None:
    command = home.begin()
    until(home.living)
    command.kill()
    command.communicate(timeout=WAIT_S)
    second = facts(home.start())
    (pid,) = home.living()
    os.kill(pid, signal.SIGKILL)
    until(lambda: not home.living())
    third = facts(home.start())

    assert (second["started"], second["pids"]) == (False, [pid])
    assert (third["started"], third["bootstrap_servers"]) == (True, second["bootstrap_servers"])
    assert KEPT_TOPIC in topics(third["bootstrap_servers"])


def test_interrupted_start_leaves_no_broker(home: Home) -> None:
    command = home.begin()
    until(home.living)
    (pid,) = home.living()
    command.send_signal(signal.SIGINT)
    out, err = command.communicate(timeout=WAIT_S)

    assert (command.returncode, out) == (130, "")
    assert "Traceback" not in err
    assert home.living() == []
    assert not Path(f"/proc/{pid}").exists()


def test_process_that_has_a_broker_s_id_by_chance_is_no_broker(home: Home) -> None:
    note = json.loads(home.note.read_text())
    note["brokers"][0]["pid"] = os.getpid()
    home.note.write_text(json.dumps(note))

    status, stop = home.run("status"), home.run("stop")

    assert (status.out, stop.out) == ("not running\n", "nothing was running\n")


def test_unreadable_note_of_brokers_is_named_and_nothing_is_deleted(home: Home) -> None:
    home.note.write_text("{")

    ended = [home.run(command) for command in ("start", "stop", "status")]
    home.note.unlink()

    for each in ended:
        assert each.code == 3
        assert f"{home.note} cannot be read" in each.err
        assert "delete this file: the data beside it is found again" in each.err
    assert (home.kafka / "broker-1" / "data" / "meta.properties").exists()


def test_reset_deletes_the_data_of_stopped_brokers(home: Home) -> None:
    ended = home.run("reset", "--json")

    assert facts(ended) == {"reset": True}
    assert [path.name for path in home.kafka.iterdir()] == ["lock"]


def test_folder_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / ".stepfold").write_text("a file")

    ended = run("kafka", "start", cwd=tmp_path)

    assert ended.code == 3
    assert f"the folder {tmp_path}/.stepfold/kafka cannot be written" in ended.err
    assert "--state-dir" in ended.err


def test_disk_without_room_is_named_before_anything_is_started(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "FREE_BYTES_MIN", 2**60)

    with pytest.raises(KafkaError, match=r"MiB free, Kafka needs \d+; free some space"):
        LocalKafka(home.folder / ".stepfold").start()

    assert home.living() == []


def test_broker_that_is_missing_among_three_is_started_alone(kafka_three: LocalKafka) -> None:
    before = kafka_three.status()
    kafka_three.kill_broker(2)
    without = kafka_three.status()
    again = kafka_three.start(WAIT_S)

    assert (without.brokers, without.brokers_total) == (2, 3)
    assert again.started
    assert again.pids[:2] == before.pids[:2]
    assert again.bootstrap_servers == before.bootstrap_servers
