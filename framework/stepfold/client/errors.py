"""What a Kafka client's error codes mean for whoever called us."""

from __future__ import annotations

from collections.abc import Callable

from confluent_kafka import KafkaError as KafkaCode
from confluent_kafka import KafkaException

from stepfold.core.errors import KafkaError, NotFoundError

UNREACHABLE = frozenset(
    {
        KafkaCode._TRANSPORT,
        KafkaCode._TIMED_OUT,
        KafkaCode._RESOLVE,
        KafkaCode._ALL_BROKERS_DOWN,
        KafkaCode._MSG_TIMED_OUT,
        KafkaCode._TIMED_OUT_QUEUE,
        KafkaCode.REQUEST_TIMED_OUT,
    }
)
REFUSED = frozenset(
    {
        KafkaCode._AUTHENTICATION,
        KafkaCode._SSL,
        KafkaCode.SASL_AUTHENTICATION_FAILED,
        KafkaCode.TOPIC_AUTHORIZATION_FAILED,
        KafkaCode.GROUP_AUTHORIZATION_FAILED,
        KafkaCode.CLUSTER_AUTHORIZATION_FAILED,
    }
)
MISSING = frozenset({KafkaCode.UNKNOWN_TOPIC_OR_PART, KafkaCode._UNKNOWN_TOPIC})
FOR_GOOD = REFUSED | MISSING | {KafkaCode._UNKNOWN_PARTITION, KafkaCode._FATAL}
"""Codes after which waiting does not help; the rest the Kafka client tries again by itself."""


def code_of(error: BaseException) -> KafkaCode:
    """The code inside a KafkaException."""
    inner = error.args[0] if isinstance(error, KafkaException) and error.args else None
    return inner if isinstance(inner, KafkaCode) else KafkaCode(KafkaCode._FAIL, str(error))


def unreachable(action: str, servers: str, why: str) -> KafkaError:
    return KafkaError(
        f"Kafka at {servers} did not answer: could not {action} ({why}); check that it runs "
        "(on this machine: stepfold kafka start), and STEPFOLD_KAFKA__BOOTSTRAP_SERVERS"
    )


def kafka_error(action: str, servers: str, code: KafkaCode, last: str | None = None) -> KafkaError:
    """`action` completes "could not …"; `last` is what the client's connections last said."""
    why = code.str()
    if code.code() in UNREACHABLE:
        return unreachable(action, servers, last or why)
    if code.code() in REFUSED:
        return KafkaError(
            f"Kafka at {servers} refused: could not {action} ({last or why}); "
            "check the credentials in kafka.config and the ACLs of this user"
        )
    return KafkaError(f"could not {action} at Kafka {servers}: {why}; look at the broker's log")


def no_app(app: str, apps: list[str], servers: str) -> NotFoundError:
    names = ", ".join(sorted(apps)) or "none"
    return NotFoundError(
        f"there is no app {app!r} at Kafka {servers} (apps with an inbox there: {names}); "
        f"create its topics with: stepfold topics apply {app}"
    )


ErrorNote = Callable[[KafkaCode], None]
