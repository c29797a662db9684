"""Writes what confluent_kafka refuses to write and other clients write without a thought.

It speaks to the same librdkafka, which the wheel brings, by way of ctypes.
"""

from __future__ import annotations

import ctypes
import ctypes.util
from pathlib import Path

import confluent_kafka

PRODUCER = 0
TOPIC, PARTITION, VALUE, HEADER, END = 1, 3, 4, 9, 0
"""Kinds of arguments of rd_kafka_producev."""
FLUSH_MS = 5_000


def produce_with_header(
    servers: str, topic: str, partition: int, value: bytes, name: bytes, text: bytes
) -> None:
    """One record with one header, whose name is just these bytes."""
    library = ctypes.CDLL(_path())
    library.rd_kafka_conf_new.restype = ctypes.c_void_p
    library.rd_kafka_new.restype = ctypes.c_void_p
    error = ctypes.create_string_buffer(512)
    config = ctypes.c_void_p(library.rd_kafka_conf_new())
    library.rd_kafka_conf_set(config, b"bootstrap.servers", servers.encode(), error, 512)
    client = ctypes.c_void_p(library.rd_kafka_new(PRODUCER, config, error, 512))
    failed = library.rd_kafka_producev(
        client,
        *(TOPIC, topic.encode()),
        *(PARTITION, ctypes.c_int32(partition)),
        *(VALUE, value, ctypes.c_size_t(len(value))),
        *(HEADER, name, text, ctypes.c_ssize_t(len(text))),
        END,
    )
    assert failed == 0
    assert library.rd_kafka_flush(client, FLUSH_MS) == 0
    library.rd_kafka_destroy(client)


def _path() -> str:
    folder = Path(confluent_kafka.__file__).parents[1] / "confluent_kafka.libs"
    bundled = next(folder.glob("librdkafka*"), None)
    return str(bundled) if bundled else ctypes.util.find_library("rdkafka") or "librdkafka.so.1"
