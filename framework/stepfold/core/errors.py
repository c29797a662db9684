"""The error tree.

    StepfoldError
    ├── ConfigurationError          settings, app or workflow declared wrongly          exit 3
    │   └── NotBuiltError           an option of the contract that this version lacks
    ├── KafkaError                  broker unreachable, refused, unsafe                 exit 4
    │   └── UnsafeTopicError        a topic setting that could lose history
    ├── NotFoundError               no such run, app, workflow                          exit 5
    ├── ConflictError               the state forbids it                                exit 6
    ├── PayloadError                a value cannot be stored or read back
    │   └── PayloadTooLargeError
    ├── CodecError                  bytes that are no event of ours
    ├── RunError                    what a caller of `result()` meets
    │   ├── RunFailed
    │   └── RunCancelled
    ├── StepFailed                  a step used all its attempts (raised inside workflows)
    ├── DefinitionChanged           a recorded result no longer fits the code
    ├── Fatal                       raised by steps: do not retry
    └── RetryAfter                  raised by steps: the next delay

Every message says what happened, with the values, and what to do next; the facts
are attributes as well.
"""

from __future__ import annotations

from stepfold.core.durations import Duration, to_milliseconds


class StepfoldError(Exception):
    """Whatever stepfold raises on purpose."""


class ConfigurationError(StepfoldError):
    """Settings, an app or a workflow is declared in a way that cannot work."""


class NotBuiltError(ConfigurationError):
    """An option that the contract names and this version does not have yet."""

    def __init__(self, option: str, where: str) -> None:
        super().__init__(
            f"{option} is not available in this version of stepfold ({where}); "
            "remove it, or upgrade when the changelog lists it"
        )
        self.option = option
        self.where = where


class KafkaError(StepfoldError):
    """Kafka cannot be reached, or refused."""


class UnsafeTopicError(KafkaError):
    """A topic has a setting under which history could be lost."""


class NotFoundError(StepfoldError):
    """What was named does not exist."""


class ConflictError(StepfoldError):
    """The present state forbids what was asked for."""


class PayloadError(StepfoldError):
    """A value cannot be serialised, or a recorded one cannot be read back."""


class PayloadTooLargeError(PayloadError):
    """A payload is over the limit.

    `size_bytes` and `limit_bytes` are its facts.
    """

    def __init__(self, what: str, size_bytes: int, limit_bytes: int) -> None:
        super().__init__(
            f"payload_too_large: {what} has {size_bytes} bytes, the limit is {limit_bytes}; "
            "store it elsewhere and pass a reference"
        )
        self.size_bytes = size_bytes
        self.limit_bytes = limit_bytes


class CodecError(StepfoldError):
    """Bytes that are not a record of a schema this version knows."""


class RunError(StepfoldError):
    """A run ended otherwise than by completing."""

    def __init__(self, run_id: str, message: str) -> None:
        super().__init__(message)
        self.run_id = run_id


class RunFailed(RunError):  # noqa: N818 - the contract's name
    """The run failed: `error_type` and `error_message` are the recorded ones."""

    def __init__(self, run_id: str, error_type: str, error_message: str) -> None:
        super().__init__(run_id, f"run {run_id} failed: {error_type}: {error_message}")
        self.error_type = error_type
        self.error_message = error_message


class RunCancelled(RunError):  # noqa: N818 - the contract's name
    """The run was cancelled, for `reason`."""

    def __init__(self, run_id: str, reason: str) -> None:
        super().__init__(run_id, f"run {run_id} was cancelled: {reason or 'no reason given'}")
        self.reason = reason


class StepFailed(StepfoldError):  # noqa: N818 - the contract's name
    """A step used all its attempts, or failed fatally.

    Raised at the step's call in the workflow, on every replay alike; catch it to
    compensate. `error_type`, `error_message` and `stack` are those of the last attempt.
    """

    def __init__(
        self, step: str, attempts: int, error_type: str, error_message: str, stack: str = ""
    ) -> None:
        tries = "1 attempt" if attempts == 1 else f"{attempts} attempts"
        super().__init__(f"step {step!r} failed after {tries}: {error_type}: {error_message}")
        self.step = step
        self.attempts = attempts
        self.error_type = error_type
        self.error_message = error_message
        self.stack = stack


class DefinitionChanged(StepfoldError):  # noqa: N818 - the contract's name
    """A recorded result no longer validates against the type the code now declares."""


class Fatal(StepfoldError):  # noqa: N818 - the contract's name
    """Raised by a step to say that no further attempt can help."""


class RetryAfter(StepfoldError):  # noqa: N818 - the contract's name
    """Raised by a step to set the delay before its next attempt."""

    def __init__(self, delay: Duration, message: str = "") -> None:
        self.delay_ms = to_milliseconds(delay)
        super().__init__(message or f"retry after {delay}")
