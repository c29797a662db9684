"""What a worker may be told otherwise is the same wherever it is said."""

from __future__ import annotations

from pathlib import Path

import pytest

from stepfold.core.errors import ConfigurationError
from stepfold.engine.process import EngineOptions
from stepfold.settings import WorkerSettings, load

SHARED = {"max_lost", "isolated_max", "isolated_memory_mb", "health"}


def test_defaults_of_the_settings_are_those_of_the_engine() -> None:
    assert WorkerSettings().model_dump(include=SHARED) == EngineOptions().model_dump(include=SHARED)


def test_lost_attempts_that_park_a_run_are_a_setting() -> None:
    settings = load({"STEPFOLD_WORKER__MAX_LOST": "5"}, Path("/nowhere"))

    assert settings.worker.max_lost == 5


@pytest.mark.parametrize("value", ["1", "26"])
def test_lost_attempts_out_of_bounds_are_refused_by_name(value: str) -> None:
    with pytest.raises(ConfigurationError, match=r"worker\.max_lost"):
        load({"STEPFOLD_WORKER__MAX_LOST": value}, Path("/nowhere"))
