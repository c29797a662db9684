"""`stepfold kafka`: real Apache Kafka on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stepfold.cli.connection import AsJson
from stepfold.cli.output import say, show
from stepfold.local import DEFAULT_STATE_DIR

app = typer.Typer(help="Real Apache Kafka on this machine, without Docker.", no_args_is_help=True)

StateDir = Annotated[Path, typer.Option(help="Folder of data, logs and state.")]


@app.command()
def start(
    brokers: Annotated[
        int | None, typer.Option(help="1, or 3 for replication; default: as before, or 1.")
    ] = None,
    port: Annotated[int | None, typer.Option(min=1, max=65_535, help="First port to try.")] = None,
    cut_damage: Annotated[
        bool, typer.Option("--cut-damage", help="Let Kafka cut off what is not whole in its logs.")
    ] = False,
    state_dir: StateDir = DEFAULT_STATE_DIR,
    as_json: AsJson = False,
) -> None:
    """Start the brokers, or say that they run. Example: stepfold kafka start --brokers 3"""
    from stepfold.local import LocalKafka

    kafka = LocalKafka(state_dir, brokers=brokers, port=port)
    info = kafka.start(say=say, cut_damage=cut_damage)
    how = f"ready in {info.ready_s:.1f} s" if info.started else "running already"
    say(f"Kafka is {how}")
    show(
        {
            "bootstrap_servers": info.bootstrap_servers,
            "pids": list(info.pids),
            "started": info.started,
            "ready_s": round(info.ready_s, 2),
        },
        info.bootstrap_servers,
        as_json=as_json,
    )


@app.command()
def stop(state_dir: StateDir = DEFAULT_STATE_DIR, as_json: AsJson = False) -> None:
    """Stop the brokers; their data stays. Example: stepfold kafka stop"""
    from stepfold.local import LocalKafka

    stopped = LocalKafka(state_dir).stop(say)
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
        "brokers_total": found.brokers_total,
        "pids": list(found.pids),
        "data_dir": str(found.data_dir),
    }
    text = f"running at {found.bootstrap_servers}" if found.running else "not running"
    if found.running and found.brokers < found.brokers_total:
        text += f", but {found.brokers} of {found.brokers_total} brokers only"
    show(facts, text, as_json=as_json)


@app.command()
def reset(state_dir: StateDir = DEFAULT_STATE_DIR, as_json: AsJson = False) -> None:
    """Delete all data of the stopped brokers. Example: stepfold kafka reset"""
    from stepfold.local import LocalKafka

    LocalKafka(state_dir).reset()
    show({"reset": True}, "all data deleted", as_json=as_json)
