"""Attempts in processes of their own: real ones, which replay, execute and die."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from stepfold.core.outcomes import Outcome, SignalArrived, StepSucceeded, TimerElapsed
from stepfold.engine import isolated_process
from stepfold.engine.execution import Died, Failed, Result, Succeeded, TimedOut
from stepfold.engine.isolated_process import Replay
from stepfold.engine.isolation import Isolation
from tests.contract.journal_contract import until

ROOT = Path(__file__).parents[2]
TARGET = "tests.engine.isolated_agents:app"
RUN = "run-1"
AT = 1_000_000
WAIT_S = 20.0
GRACE_S = 0.5


def replay_of(
    workflow: str,
    data: dict[str, str],
    *,
    step: str = "do",
    outcomes: tuple[Outcome, ...] = (),
    timeout_ms: int | None = None,
    run_id: str = RUN,
) -> Replay:
    return Replay(
        run_id=run_id,
        app="stage",
        workflow=workflow,
        tenant="",
        event_name="",
        event_id="",
        event_data=json.dumps(data).encode(),
        started_at=AT,
        outcomes=outcomes,
        step=step,
        attempt=3,
        timeout_ms=timeout_ms,
    )


def do(what: str, *, folder: str = "", timeout_ms: int | None = None, run_id: str = RUN) -> Replay:
    data = {"text": what, "folder": folder}
    if timeout_ms is not None:
        data["timeout"] = f"{timeout_ms}ms"
    return replay_of("do", data, timeout_ms=timeout_ms, run_id=run_id)


ANSWERED = (
    StepSucceeded(AT + 1, "measure", b"5", "json"),
    TimerElapsed(AT + 2, "pause"),
    SignalArrived(AT + 3, "suffix", b'"!"', "json"),
)


@asynccontextmanager
async def isolation(memory_max_mb: int | None = 512) -> AsyncGenerator[Isolation]:
    made = Isolation({"stage": TARGET}, ROOT, memory_max_mb=memory_max_mb)
    try:
        yield made
    finally:
        made.close()


def executed(*replays: Replay) -> list[Result | Died]:
    """One after the other."""

    async def main() -> list[Result | Died]:
        async with isolation() as isolated, asyncio.timeout(WAIT_S):
            return [await isolated.execute(replay) for replay in replays]

    return asyncio.run(main())


def value_of(result: Result | Died) -> Any:
    assert isinstance(result, Succeeded), result
    return json.loads(result.payload)


def test_closure_is_found_by_replay_and_sees_what_it_sees_in_the_worker() -> None:
    data = {"text": "hello"}

    (result,) = executed(replay_of("answer", data, step="ask", outcomes=ANSWERED))

    answer = value_of(result)
    assert answer["text"] == "hello/5/!/first"
    assert answer["pid"] != os.getpid()
    assert (answer["attempt"], answer["idempotency_key"]) == (3, f"{RUN}:ask")
    assert json.loads(answer["event_data"]) == data


def test_lambda_beside_other_open_steps_is_found_by_replay() -> None:
    (result,) = executed(replay_of("answer", {"text": "hello"}, step="twice", outcomes=ANSWERED))

    assert value_of(result) == 10


def test_plain_function_is_executed_in_the_first_step() -> None:
    (result,) = executed(replay_of("answer", {"text": "hello"}, step="measure"))

    assert value_of(result) == 5


def test_step_that_the_replay_does_not_reach_fails_with_what_to_do() -> None:
    (result,) = executed(replay_of("answer", {"text": "hello"}, step="ask"))

    assert isinstance(result, Failed)
    assert result.error_type == "NotReachedError"
    assert "between steps" in result.message


def test_errors_of_the_step_are_told_as_in_the_worker() -> None:
    fatal, later = executed(do("fatal"), do("retry after"))

    assert isinstance(fatal, Failed)
    assert (fatal.error_type, fatal.message, fatal.retryable) == ("Fatal", "no way", False)
    assert isinstance(later, Failed)
    assert (later.retryable, later.delay_ms) == (True, 7_000)


@pytest.mark.parametrize(
    ("what", "evidence"),
    [
        ("segfault", ("signal 11 (SIGSEGV)", "string_at")),
        ("killed", ("signal 9 (SIGKILL)", "the last words")),
        ("eat", ("ran out of the 512 MB", "MemoryError")),
    ],
)
def test_death_of_the_process_is_told_with_its_evidence(
    what: str, evidence: tuple[str, ...]
) -> None:
    (result,) = executed(do(what))

    assert isinstance(result, Died)
    assert result.is_proof
    assert all(fact in result.evidence for fact in (*evidence, "peak memory")), result.evidence


def test_death_shows_also_when_a_process_lives_on_that_the_step_has_started() -> None:
    (result,) = executed(do("spawn"))

    assert isinstance(result, Died)
    assert "exit code 5" in result.evidence


def test_process_serves_one_attempt_after_the_other() -> None:
    first, second = executed(do("pid"), do("pid"))

    assert value_of(first) == value_of(second)


def test_death_of_a_process_that_others_used_is_no_proof_and_the_next_one_is() -> None:
    _, in_used, in_new = executed(do("pid", run_id="run-2"), do("segfault"), do("segfault"))

    assert isinstance(in_used, Died)
    assert not in_used.is_proof
    assert isinstance(in_new, Died)
    assert in_new.is_proof


def test_process_that_dies_of_what_an_attempt_left_behind_blames_no_other() -> None:
    async def main() -> tuple[Result | Died, Result | Died]:
        async with isolation() as isolated, asyncio.timeout(WAIT_S):
            left = await isolated.execute(do("exit later", run_id="run-2"))
            hung = await isolated.execute(do("hang", folder=os.devnull))
            return left, hung

    left, hung = asyncio.run(main())

    assert value_of(left) == "left something behind"
    assert isinstance(hung, Died)
    assert not hung.is_proof


def test_timeout_is_kept_in_the_process() -> None:
    (result,) = executed(do("hang", folder=os.devnull, timeout_ms=200))

    assert result == TimedOut(200)


def test_timeout_that_the_step_does_not_let_be_kept_ends_the_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(isolated_process, "STOP_GRACE_S", GRACE_S)

    (result,) = executed(do("block", timeout_ms=200))

    assert result == TimedOut(200)


def cancelled(replay: Replay, pid_file: Path) -> None:
    """Cancel the attempt once it runs, and wait until its process is gone."""

    async def main() -> None:
        async with isolation() as isolated, asyncio.timeout(WAIT_S):
            attempt = asyncio.create_task(isolated.execute(replay))
            await until(lambda: pid_file.exists() and bool(pid_file.read_text()))
            attempt.cancel()
            with pytest.raises(asyncio.CancelledError):
                await attempt
            await until(lambda: not is_alive(int(pid_file.read_text())))

    asyncio.run(main())


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_cancelled_attempt_gets_to_clean_up(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"

    cancelled(do("hang", folder=str(pid_file)), pid_file)

    assert (tmp_path / "pid.cleaned").exists()


def test_cancelled_attempt_that_does_not_end_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(isolated_process, "STOP_GRACE_S", GRACE_S)
    pid_file = tmp_path / "pid"

    cancelled(do("hang deaf", folder=str(pid_file)), pid_file)

    assert not is_alive(int(pid_file.read_text()))


def hang_for_ever(pid_file: str) -> None:
    """What the worker does that the test below kills."""
    executed(do("hang", folder=pid_file))


def test_process_ends_with_its_worker_however_that_ends(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    work = f"from {__name__} import hang_for_ever; hang_for_ever({str(pid_file)!r})"

    async def main() -> None:
        worker = await asyncio.create_subprocess_exec(sys.executable, "-c", work, cwd=ROOT)
        await until(lambda: pid_file.exists() and bool(pid_file.read_text()))
        worker.kill()
        await worker.wait()
        await until(lambda: not is_alive(int(pid_file.read_text())))

    asyncio.run(main())


def test_process_without_an_attempt_ends_when_isolation_is_closed() -> None:
    async def main() -> None:
        async with isolation() as isolated, asyncio.timeout(WAIT_S):
            pid = value_of(await isolated.execute(do("pid")))
            assert is_alive(pid)
        await until(lambda: not is_alive(pid))

    asyncio.run(main())


def test_app_that_cannot_be_imported_in_the_process_does_not_convict_the_step() -> None:
    async def main() -> Result | Died:
        isolated = Isolation({"stage": "tests.engine.isolated_agents:nothing"}, ROOT)
        try:
            return await isolated.execute(do("pid"))
        finally:
            isolated.close()

    result = asyncio.run(main())

    assert isinstance(result, Died)
    assert not result.is_proof
    assert "has no 'nothing'" in result.evidence
