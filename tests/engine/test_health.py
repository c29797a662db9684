"""What a worker process shows to a monitor."""

from __future__ import annotations

import asyncio
import builtins
from collections.abc import Mapping, Sequence
from typing import Any

import aiohttp
import pytest

from stepfold.core.errors import ConfigurationError
from stepfold.engine.health import Address, ShardHealth, parse_address, serve_health
from tests.kafka_fixture import free_port

LED = ShardHealth("research", 0, "leading", 0, 0.0, 3, 0)
DEGRADED = ShardHealth("research", 1, "degraded", 7, 6.5, 2, 4)
FAULTED = ShardHealth("research", 2, "faulted", 0, 0.0, 0, 0)


async def answer_of(
    path: str, shards: Sequence[ShardHealth], *, is_ready: bool = True
) -> tuple[int, str]:
    address = Address("127.0.0.1", free_port())
    url = f"http://{address.host}:{address.port}{path}"
    async with (
        serve_health(address, shards=lambda: shards, is_ready=lambda: is_ready),
        aiohttp.ClientSession() as session,
        session.get(url) as response,
    ):
        return response.status, await response.text()


def test_process_that_answers_is_alive() -> None:
    assert asyncio.run(answer_of("/livez", [FAULTED], is_ready=False)) == (200, "ok\n")


@pytest.mark.parametrize(
    ("shards", "is_ready", "status"),
    [
        ([LED, DEGRADED], True, 200),
        ([LED], False, 503),
        ([LED, FAULTED], True, 503),
        ([], True, 200),
    ],
)
def test_process_is_ready_when_it_runs_and_no_shard_is_faulted(
    shards: list[ShardHealth], is_ready: bool, status: int
) -> None:
    assert asyncio.run(answer_of("/readyz", shards, is_ready=is_ready))[0] == status


def test_readiness_lists_the_shards_with_what_waits_in_them() -> None:
    _, text = asyncio.run(answer_of("/readyz", [DEGRADED]))

    assert text == (
        '{"ready": true, "shards": [{"app": "research", "partition": 1, "state": "degraded",'
        ' "unproven": 7, "oldest_unproven_s": 6.5, "running": 2, "kept": 4}]}'
    )


def test_metrics_have_a_line_for_each_shard() -> None:
    _, text = asyncio.run(answer_of("/metrics", [LED, DEGRADED]))

    lines = text.splitlines()
    place = 'app="research",partition="1"'
    assert f'stepfold_shard_state{{{place},state="degraded"}} 1.0' in lines
    assert f"stepfold_shard_unproven_events{{{place}}} 7.0" in lines
    assert f"stepfold_shard_oldest_unproven_seconds{{{place}}} 6.5" in lines
    assert f"stepfold_results_kept{{{place}}} 4.0" in lines
    assert 'stepfold_attempts_running{app="research",partition="0"} 3.0' in lines


def test_each_process_listens_on_a_port_of_its_own() -> None:
    assert parse_address("0.0.0.0:8485", 2) == Address("0.0.0.0", 8487)
    assert parse_address("[::1]:8485") == Address("::1", 8485)


@pytest.mark.parametrize(
    ("text", "number"), [("8485", 0), (":8485", 0), ("a:b", 0), ("a:65535", 1)]
)
def test_address_that_is_none_is_refused(text: str, number: int) -> None:
    with pytest.raises(ConfigurationError, match=r"worker\.health must be HOST:PORT"):
        parse_address(text, number)


def test_address_that_is_in_use_is_named() -> None:
    async def main() -> None:
        address = Address("127.0.0.1", free_port())
        async with serve_health(address, shards=list, is_ready=lambda: True):
            with pytest.raises(
                ConfigurationError, match=f"cannot listen on 127.0.0.1:{address.port}"
            ):
                async with serve_health(address, shards=list, is_ready=lambda: True):
                    raise AssertionError("two listen on one port")

    asyncio.run(main())


def test_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    real_import = builtins.__import__

    def import_without_aiohttp(
        name: str,
        globals: Mapping[str, object] | None = None,  # noqa: A002 - the signature of __import__
        locals: Mapping[str, object] | None = None,  # noqa: A002 - the same
        fromlist: Sequence[str] = (),
        level: int = 0,
    ) -> Any:
        if name == "aiohttp":
            raise ImportError("No module named 'aiohttp'", name=name)
        return real_import(name, globals, locals, fromlist, level)

    async def main() -> None:
        with pytest.raises(ConfigurationError, match=r"install stepfold\[projections\]"):
            async with serve_health(Address("::1", 1), shards=list, is_ready=lambda: True):
                raise AssertionError("it was served without the extra")

    monkeypatch.setattr(builtins, "__import__", import_without_aiohttp)
    asyncio.run(main())
