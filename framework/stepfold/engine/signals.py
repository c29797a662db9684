"""Signals and the runs that wait for them: what is delivered, and what is refused."""

from __future__ import annotations

import logging

from stepfold.core import decide
from stepfold.core import events as e
from stepfold.core.run import Run
from stepfold.engine.history import ShardHistory
from stepfold.engine.live import LiveRun
from stepfold.sdk.failures import failure_of

logger = logging.getLogger(__name__)


def refusal_of(live: LiveRun, signal_name: str, payload: bytes) -> str | None:
    """Why a signal is not what its run waits for; such a one must not end the wait."""
    wait_id = decide.wait_for(live.run, signal_name)
    return None if wait_id is None else _refusal(live, wait_id, payload)


def deliver_buffered(history: ShardHistory, live: LiveRun) -> None:
    """Give the run the signals that came before it waited for them."""
    while deliveries := decide.buffered_deliveries(live.run):
        for delivery in deliveries:
            refusal = _refusal(live, delivery.wait_id, delivery.payload)
            if refusal is None:
                history.append(delivery, tenant=live.run.tenant)
            else:
                _drop(history, live.run, delivery, refusal)


def _drop(history: ShardHistory, run: Run, delivery: e.WaitResolved, refusal: str) -> None:
    name = run.waits[delivery.wait_id].name
    logger.warning("early signal is dropped", extra={"run_id": run.run_id, "reason": refusal})
    expired = e.SignalExpired(run_id=run.run_id, signal_id=delivery.signal_id, name=name)
    history.append(expired, tenant=run.tenant)


def _refusal(live: LiveRun, wait_id: str, payload: bytes) -> str | None:
    """What the author's own validators raise is a refusal as well, whatever it is."""
    try:
        return live.instance.refusal_of(wait_id, payload)
    except BaseException as error:  # noqa: BLE001 - SystemExit would end the process
        failure = failure_of(error)
        return f"the payload cannot be checked: {failure.error_type}: {failure.message}"
