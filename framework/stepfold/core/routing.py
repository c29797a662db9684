"""In which inbox partition a trigger goes, so that equal keys meet.

Idempotency keys and event ids are remembered per shard: a repeated one is only noticed
where the first one went. The hash is therefore fixed for ever, and it is the one of
Java's default partitioner (murmur2 over the UTF-8 key, sign bit dropped, modulo the
number of partitions): a producer in another language that sets the record key to the
same text, and keeps the Java-compatible partitioner, places it alike. librdkafka calls
that one `murmur2_random`; its own default (`consistent_random`) differs.
"""

from __future__ import annotations

SEED = 0x9747B28C
MULTIPLIER = 0x5BD1E995
SHIFT = 24
WORD = 0xFFFFFFFF


def partition_for(key: str, partitions: int) -> int:
    """The partition of a key among so many partitions."""
    if partitions < 1:
        raise ValueError(f"partitions must be at least 1, got {partitions}")
    return (murmur2(key.encode()) & 0x7FFFFFFF) % partitions


def murmur2(data: bytes) -> int:
    """The 32-bit hash of org.apache.kafka.common.utils.Utils.murmur2, without sign."""
    length = len(data)
    value = (SEED ^ length) & WORD
    whole = length & ~3
    for start in range(0, whole, 4):
        word = int.from_bytes(data[start : start + 4], "little") * MULTIPLIER & WORD
        word = (word ^ word >> SHIFT) * MULTIPLIER & WORD
        value = value * MULTIPLIER & WORD ^ word
    if whole < length:
        value = (value ^ int.from_bytes(data[whole:], "little")) * MULTIPLIER & WORD
    value = (value ^ value >> 13) * MULTIPLIER & WORD
    return value ^ value >> 15
