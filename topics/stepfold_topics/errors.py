"""What can be wrong with an app's topics.

    TopicError
    ├── TopicsUnreachableError      Kafka does not answer, or refuses to tell
    │   └── MissingTopicsError      `missing`: they are not there
    ├── UnsafeSettingError          a setting under which history could be lost
    └── ProvisionError              Kafka refused a change, or did not answer
        └── RekeyError              the change would move keys to other partitions

This package knows nothing of stepfold; whoever calls it translates.
"""

from __future__ import annotations

from collections.abc import Sequence


class TopicError(Exception):
    """Whatever this package raises on purpose."""


class TopicsUnreachableError(TopicError):
    """Kafka does not tell about the topics."""


class MissingTopicsError(TopicsUnreachableError):
    """Topics of the app do not exist."""

    def __init__(self, app: str, missing: Sequence[str]) -> None:
        super().__init__(
            f"no such topic: {', '.join(missing)}; "
            f"create what is missing with `stepfold topics apply {app}`"
        )
        self.app = app
        self.missing = tuple(missing)


class UnsafeSettingError(TopicError):
    """A topic is set in a way that could lose history, or stop the app for good."""

    def __init__(self, topic: str, setting: str, value: str, wanted: str, remedy: str) -> None:
        super().__init__(f"topic {topic} has {setting}={value}, and must have {wanted}; {remedy}")
        self.topic = topic
        self.setting = setting
        self.value = value
        self.wanted = wanted


class ProvisionError(TopicError):
    """Kafka refused a change, or did not answer."""


class RekeyError(ProvisionError):
    """The change asked for would move keys to other partitions."""

    def __init__(self, topic: str, partitions: int, wanted: int) -> None:
        super().__init__(
            f"topic {topic} has {partitions} partitions, wanted {wanted}; the number cannot be "
            "changed, because keys and run ids name their partition: "
            f"ask for {partitions}, or make a new app"
        )
        self.topic = topic
        self.partitions = partitions
        self.wanted = wanted
