"""What the codec costs beside Avro's own work, measured in the same run.

The bound is generous: it is there to notice a loop over fields or a union coming back,
not to measure this machine. `python -m tests.unit.test_codec_cost` prints the figures.
"""

from __future__ import annotations

import importlib
import io
import json
import sys
import timeit
from collections.abc import Callable
from typing import Any

import pytest

from stepfold.core import events as e
from stepfold.journal import codec
from stepfold_topics import schemas
from tests.unit.codec_samples import AT, EPOCH, SEQ, sample

FLOOR_RATIO_MAX = 4.0
ROUNDS = 5
CALLS = 2_000
KINDS: tuple[type[e.Event], ...] = (e.AttemptStarted, e.StepCompleted)

TIME, LONG = '{"type": "long", "logicalType": "timestamp-millis"}', '"long"'  # as the codec does

fastavro: Any = importlib.import_module("fastavro")  # its stubs leave the buffer's type open


@pytest.mark.parametrize("cls", KINDS)
def test_a_record_costs_a_small_multiple_of_avros_own_work(cls: type[e.Event]) -> None:
    costs = measure(cls)

    assert costs["encode"] < FLOOR_RATIO_MAX * costs["bare write"]
    assert costs["decode"] < FLOOR_RATIO_MAX * costs["bare read"]


def measure(cls: type[e.Event]) -> dict[str, float]:
    """Microseconds per call, the best of several rounds."""
    event: e.Event = sample(cls)
    value = codec.encode_event(event, epoch=EPOCH, seq=SEQ, at=AT)
    body = value[codec.HEADER_BYTES :]
    schema = fastavro.parse_schema(json.loads(schemas.present()[cls.__name__].replace(TIME, LONG)))
    fields = fastavro.schemaless_reader(io.BytesIO(body), schema, None)
    return {
        "bare write": _cost(lambda: fastavro.schemaless_writer(io.BytesIO(), schema, fields)),
        "encode": _cost(lambda: codec.encode_event(event, epoch=EPOCH, seq=SEQ, at=AT)),
        "bare read": _cost(lambda: fastavro.schemaless_reader(io.BytesIO(body), schema, None)),
        "decode": _cost(lambda: codec.decode_event(value, 0)),
        "headers": _cost(lambda: codec.event_headers(event, EPOCH, SEQ)),
    }


def _cost(call: Callable[[], object]) -> float:
    return min(timeit.repeat(call, number=CALLS, repeat=ROUNDS)) / CALLS * 1e6


if __name__ == "__main__":
    for kind in KINDS:
        figures = ", ".join(f"{name} {cost:.2f} µs" for name, cost in measure(kind).items())
        sys.stdout.write(f"{kind.__name__}: {figures}\n")
