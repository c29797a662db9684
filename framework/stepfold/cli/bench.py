"""`stepfold bench`: what a durable step costs here, beside one append."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stepfold.cli.connection import AsJson, Servers, ended_by_any_signal, stage_kafka
from stepfold.cli.output import say, show
from stepfold.local import DEFAULT_STATE_DIR

if TYPE_CHECKING:
    from stepfold.bench.measure import Figures


def bench(
    state_dir: Annotated[Path, typer.Option(help="Folder of Kafka's data.")] = DEFAULT_STATE_DIR,
    bootstrap_servers: Servers = None,
    as_json: AsJson = False,
) -> None:
    """Measure latency and throughput, each with its floor. Example: stepfold bench --json"""
    from stepfold.bench.measure import measure
    from stepfold.telemetry import configure_logging, quiet

    quiet()
    configure_logging()

    with (
        ended_by_any_signal(),
        stage_kafka(state_dir.absolute(), bootstrap_servers) as (servers, config),
    ):
        figures = asyncio.run(measure(servers, config, say))
    show(figures.as_json(), _table(figures), as_json=as_json)


def _table(figures: Figures) -> str:
    latency, throughput = figures.latency, figures.throughput
    rows = (
        ("", "median", "p99"),
        ("step", f"{latency.step_median_ms:.2f} ms", f"{latency.step_p99_ms:.2f} ms"),
        ("append", f"{latency.append_median_ms:.2f} ms", f"{latency.append_p99_ms:.2f} ms"),
        ("ratio", f"{latency.ratio:.2f}", ""),
        ("", "", ""),
        ("steps/s", f"{throughput.steps_per_s:,.0f}", "one worker process, 1,000 runs of 10"),
        ("appends/s", f"{throughput.appends_per_s:,.0f}", "the Kafka client alone"),
    )
    lines = [f"{name:<10} {first:>10}  {second:<10}".rstrip() for name, first, second in rows]
    machine = f"{figures.cores} cores, Python {figures.python}, Kafka on the same machine or near"
    return "\n".join([*lines, "", machine])
