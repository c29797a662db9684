"""How log lines look: JSON when a program reads them, plain when a person does.

Messages are constant; what varies is in fields, under one name everywhere: app,
partition, run_id, workflow, step, attempt, topic, offset, reason.
"""

from __future__ import annotations

import logging
import os
import sys

from stepfold.core.errors import ConfigurationError

LEVEL_VARIABLE = "STEPFOLD_LOG_LEVEL"
LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
OURS = "stepfold"


def quiet() -> None:
    """Errors only, in the worker processes too, unless the environment says otherwise."""
    os.environ.setdefault(LEVEL_VARIABLE, "ERROR")


def configure_logging(level: str | None = None) -> None:
    """Log to stderr; called by programs, never by the library.

    Worker processes learn the level from the environment. Raises ConfigurationError for
    one that is none.
    """
    import structlog

    level = (level or os.environ.get(LEVEL_VARIABLE) or "INFO").upper()
    if level not in LEVELS:
        raise ConfigurationError(
            f"{LEVEL_VARIABLE} is {level!r}, and must be one of {', '.join(LEVELS)}"
        )
    os.environ[LEVEL_VARIABLE] = level

    is_terminal = sys.stderr.isatty()
    shared: list[structlog.types.Processor] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="ts"),
    ]
    last: list[structlog.types.Processor] = (
        [structlog.dev.ConsoleRenderer()]
        if is_terminal
        else [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel("WARNING")
    logging.getLogger(OURS).setLevel(level)
