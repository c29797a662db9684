"""The blobs' contract on S3, as moto's server speaks it on this machine.

Its answers are Amazon's in form; what only a real bucket has (credentials that expire, slow
answers, throttling) is not seen here. Google's and Azure's stores go through the same code of
ours, but no server of theirs runs here.
"""

from __future__ import annotations

import asyncio
import itertools
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import pytest

from stepfold.core.errors import ConfigurationError
from stepfold.payloads.blobs import Blobs
from stepfold.payloads.bucket import BucketStore
from stepfold.payloads.errors import BlobRefusedError, BlobUnavailableError
from stepfold.payloads.port import BlobStore
from stepfold.payloads.store import PayloadStore
from tests.contract.blob_contract import BlobStoreContract, BlobWorld, put
from tests.unit.payloads.samples import call_of, messages

START_TIMEOUT_S = 30.0
RUNNING = re.compile(r"Running on (http://127\.0\.0\.1:\d+)")
_numbers = itertools.count(1)


class S3World(BlobWorld):
    resolution = timedelta(seconds=1.1)

    def __init__(self, endpoint: str) -> None:
        self.options = options(endpoint)
        self.url = f"s3://bucket-{next(_numbers)}/a/prefix"
        bucket = self.url.split("/")[2]
        urllib.request.urlopen(urllib.request.Request(f"{endpoint}/{bucket}", method="PUT")).close()

    def store(self) -> BlobStore:
        return BucketStore(self.url, self.options)


@pytest.fixture(scope="session")
def s3_endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    log = tmp_path_factory.mktemp("s3") / "log"
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", "0"]
    with log.open("wb") as output:
        server = subprocess.Popen(command, stdout=output, stderr=output)
    try:
        yield _address(server, log)
    finally:
        server.terminate()
        server.wait(START_TIMEOUT_S)


@pytest.fixture
def world(s3_endpoint: str) -> BlobWorld:
    return S3World(s3_endpoint)


class TestBucketStore(BlobStoreContract): ...


def test_payloads_are_stored_and_loaded(s3_endpoint: str) -> None:
    payload = call_of(messages(60))

    async def claim() -> bytes:
        payloads = PayloadStore(Blobs(S3World(s3_endpoint).store()))
        document, encoding = await payloads.store(payload)
        return await payloads.load(document, encoding)

    assert asyncio.run(claim()) == payload


def test_bucket_that_does_not_exist_refuses(s3_endpoint: str) -> None:
    async def claim() -> None:
        store = BucketStore("s3://nowhere", options(s3_endpoint))
        with pytest.raises(BlobRefusedError, match=r"store blobs/aa/x in s3://nowhere.*bucket"):
            await put(store, "blobs/aa/x", b"content")

    asyncio.run(claim())


def test_endpoint_that_does_not_answer_is_unavailable() -> None:
    async def claim() -> None:
        store = BucketStore("s3://bucket", options("http://127.0.0.1:1"))
        with pytest.raises(BlobUnavailableError, match=r"read blobs/aa/x in s3://bucket"):
            await store.get("blobs/aa/x")
        with pytest.raises(BlobUnavailableError, match=r"list blobs/ in s3://bucket"):
            _ = [each async for each in store.listing("blobs/")]

    asyncio.run(claim())


@pytest.mark.parametrize(
    ("url", "wrong", "what"),
    [
        ("s3://bucket", {"regoin": "secret"}, r"'regoin' is not valid.*options given: .*regoin"),
        ("s3://bucket", {"timeout": "soon"}, "options given: .*timeout"),
        ("az://account", {}, "az://account cannot be opened"),
    ],
)
def test_wrong_option_is_named_and_its_value_is_not(
    url: str, wrong: Mapping[str, str], what: str
) -> None:
    with pytest.raises(ConfigurationError, match=what) as caught:
        BucketStore(url, wrong)

    assert "secret" not in str(caught.value)


def options(endpoint: str) -> dict[str, str]:
    return {
        "region": "eu-west-1",
        "endpoint": endpoint,
        "allow_http": "true",
        "access_key_id": "test",
        "secret_access_key": "test",
    }


def _address(server: subprocess.Popen[bytes], log: Path) -> str:
    give_up_at = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < give_up_at and server.poll() is None:
        if found := RUNNING.search(log.read_text()):
            return found[1]
        with suppress(subprocess.TimeoutExpired):
            server.wait(0.05)
    raise RuntimeError(f"moto's server does not run: {log.read_text()}")
