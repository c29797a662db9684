"""`stepfold kafka`: real Apache Kafka on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stepfold.cli.connection import AsJson
from stepfold.cli.output import say, show
from stepfold.local.state import DEFAULT_STATE_DIR

app = typer.Typer(help="Real Apache Kafka on this machine, without Docker.", no_args_is_help=True)

StateDir = Annotated[Path, typer.Option(help="Folder of data, logs and state.")]


@app.command()
def start(
    brokers: Annotated[int, typer.Option(help="1, or 3 for replication.")] = 1,
    port: Annotated[int | None, typer.Option(help="First port to try.")] = None,
    state_dir: StateDir = DEFAULT_STATE_DIR,
    as_json: AsJson = False,
) -> None:
    """Start the brokers, or say that they run. Example: stepfold kafka start --brokers 3"""
    from stepfold.local import LocalKafka

    info = LocalKafka(state_dir, brokers=brokers, port=port).start(say=say)
    how = f"ready in {info.ready_s:.1f} s" if info.started else "running already"
    say(f"Kafka is {how}")
    show(
        {"bootstrap_servers": info.bootstrap_servers, "pids": list(info.pids)},
        info.bootstrap_servers,
        as_json=as_json,
    )


@app.command()
def stop(state_dir: StateDir = DEFAULT_STATE_DIR, as_json: AsJson = False) -> None:
    """Stop the brokers; their data stays. Example: stepfold kafka stop"""
    from stepfold.local import LocalKafka

    stopped = LocalKafka(state_dir, brokers=_brokers(state_dir)).stop()
    show({"stopped": stopped}, "stopped" if stopped else "nothing was running", as_json=as_json)


@app.command()
def status(state_dir: StateDir = DEFAULT_STATE_DIR, as_json: AsJson = False) -> None:
    """Say what runs. Example: stepfold kafka status --json"""
    from stepfold.local import LocalKafka

    found = LocalKafka(state_dir).status()
    facts = {
        "running": found.running,
        "bootstrap_servers": found.bootstrap_servers,
        "brokers": found.brokers,
        "pids": list(found.pids),
        "data_dir": str(found.data_dir),
    }
    text = f"running at {found.bootstrap_servers}" if found.running else "not running"
    show(facts, text, as_json=as_json)


@app.command()
def reset(state_dir: StateDir = DEFAULT_STATE_DIR, as_json: AsJson = False) -> None:
    """Delete all data of the stopped brokers. Example: stepfold kafka reset"""
    from stepfold.local import LocalKafka

    LocalKafka(state_dir).reset()
    show({"reset": True}, "all data deleted", as_json=as_json)


def _brokers(state_dir: Path) -> int:
    from stepfold.local.state import KAFKA_FOLDER, read_state

    state = read_state(state_dir / KAFKA_FOLDER)
    return len(state.brokers) if state is not None else 1
