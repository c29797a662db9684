"""Exit codes of the command line: one for each kind of trouble."""

from __future__ import annotations

from stepfold.core import errors
from stepfold_topics.errors import MissingTopicsError, RekeyError, TopicError

OK = 0
FAILED = 1
USAGE = 2
CONFIGURATION = 3
KAFKA = 4
NOT_FOUND = 5
CONFLICT = 6
TIMEOUT = 124
INTERRUPT = 130


class UsageError(errors.StepfoldError):
    """An argument that only the other side could judge."""


_CODES: tuple[tuple[type[BaseException], int], ...] = (
    (UsageError, USAGE),
    (errors.ConfigurationError, CONFIGURATION),
    (errors.KafkaError, KAFKA),
    (errors.NotFoundError, NOT_FOUND),
    (errors.ConflictError, CONFLICT),
    (RekeyError, CONFLICT),
    (MissingTopicsError, NOT_FOUND),
    (TopicError, KAFKA),
    (TimeoutError, TIMEOUT),
    (KeyboardInterrupt, INTERRUPT),
)


def exit_code_of(error: BaseException) -> int:
    return next((code for kind, code in _CODES if isinstance(error, kind)), FAILED)
