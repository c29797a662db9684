"""The journal on Kafka: one producer, one reader, one membership per app."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping
from typing import Any

from confluent_kafka import KafkaError as KafkaCode
from confluent_kafka.admin import AdminClient

from stepfold.core.errors import KafkaError, UnsafeTopicError
from stepfold.journal.appender import KafkaAppender
from stepfold.journal.inbox import KafkaMembership, group_of
from stepfold.journal.port import AppTopics, TopicFacts
from stepfold.journal.reader import KafkaReader
from stepfold.journal.settings import (
    admin_config,
    appender_config,
    member_config,
    reader_config,
)
from stepfold_topics.guard import TopicsUnreachableError, UnsafeSettingError, check, describe


class KafkaJournal:
    """A Journal. `end_process` is called, with an exit code, when only a fresh one can help."""

    def __init__(
        self,
        *,
        bootstrap_servers: str,
        config: Mapping[str, Any],
        instance_id: str,
        unsafe_dev: bool = False,
        end_process: Callable[[int], None] = os._exit,
    ) -> None:
        loop = asyncio.get_running_loop()
        self._servers = bootstrap_servers
        self._config = config
        self._instance_id = instance_id
        self._unsafe_dev = unsafe_dev
        self._end_process = end_process
        self._loop = loop
        self._memberships: list[KafkaMembership] = []
        self.appender = KafkaAppender(appender_config(bootstrap_servers, config), loop)
        self.reader = KafkaReader(reader_config(bootstrap_servers, config), loop)

    def membership(self, app: str) -> KafkaMembership:
        config = member_config(
            self._servers, self._config, group=group_of(app), instance_id=self._instance_id
        )
        membership = KafkaMembership(
            config, f"{app}.inbox", self._loop, end_process=self._end_process
        )
        self._memberships.append(membership)
        return membership

    async def topics(self, app: str) -> AppTopics:
        """Raises KafkaError (no answer, no topics) or UnsafeTopicError (rule R2)."""
        said: list[str] = []

        def note(error: KafkaCode) -> None:
            said.append(error.str())

        config: dict[str, Any] = admin_config(self._servers, self._config)
        config["error_cb"] = note
        admin = AdminClient(config)
        try:
            described = await asyncio.to_thread(describe, admin, app)
            check(described, unsafe_dev=self._unsafe_dev)
        except UnsafeSettingError as error:
            raise UnsafeTopicError(str(error)) from error
        except TopicsUnreachableError as error:
            admin.poll(0)  # has the client say what it met; a refused password shows only there
            why = f": {said[0]}" if said else ""
            raise KafkaError(f"{error} (Kafka at {self._servers}{why})") from error
        inbox, control, history, dlq = (
            TopicFacts(topic.name, topic.topic_id, topic.partitions)
            for topic in (described.inbox, described.control, described.history, described.dlq)
        )
        return AppTopics(inbox, control, history, dlq, unsafe=self._unsafe_dev)

    async def close(self) -> None:
        await asyncio.gather(*(membership.close() for membership in self._memberships))
        await asyncio.to_thread(self.reader.shut_down)
        await self.appender.close()
