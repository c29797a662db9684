"""Blobs in a bucket: Amazon S3 and what speaks like it, Google Cloud Storage, Azure.

Through obstore, one module in Rust with the clients of all three that brings no further
packages: extra `blobs`. A bucket answers a write only once it is kept on several machines.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Generator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

from stepfold.core.errors import ConfigurationError
from stepfold.payloads.errors import BlobRefusedError, BlobStoreError, BlobUnavailableError
from stepfold.payloads.port import StoredBlob

REQUEST_TIMEOUT = timedelta(seconds=60)
"""For a request in the HTTP client, so that none goes on for long when its caller has given up."""
LISTED_AT_ONCE = 1_000
CLIENT_OPTIONS = frozenset(
    {
        "allow_http", "allow_invalid_certificates", "connect_timeout", "http1_only", "http2_only",
        "pool_idle_timeout", "pool_max_idle_per_host", "proxy_url", "timeout", "user_agent",
    }
)  # fmt: skip
"""Options of the HTTP client. Among those of the store they would end the process (0.12.1)."""


class BucketStore:
    """A BlobStore. `options` are obstore's: `region`, `endpoint`, `access_key_id`, `allow_http`…

    Credentials that are not among them are found where the provider's own tools find them.
    """

    def __init__(self, url: str, options: Mapping[str, str]) -> None:
        self._url = url
        self._obstore, self._store = _open(url, options)

    @property
    def place(self) -> str:
        return self._url

    async def put(self, key: str, content: bytes, *, unless_since: datetime) -> None:
        present = await self.stat(key)
        if present and present.size_bytes == len(content) and present.modified_at >= unless_since:
            return
        with self._errors(f"store {key}"):
            try:
                # A single request, so that nobody ever sees a part of it, nor is any left behind.
                await self._obstore.put_async(self._store, key, content, use_multipart=False)
            except FileNotFoundError as error:
                raise self._refused(f"store {key}", error) from error

    async def get(self, key: str) -> bytes | None:
        with self._errors(f"read {key}"):
            try:
                found = await self._obstore.get_async(self._store, key)
                return bytes(await found.bytes_async())
            except FileNotFoundError:
                return None

    async def stat(self, key: str) -> StoredBlob | None:
        with self._errors(f"look for {key}"):
            try:
                return _stored(await self._obstore.head_async(self._store, key))
            except FileNotFoundError:
                return None

    async def move(self, key: str, to: str) -> bool:
        with self._errors(f"move {key}"):
            try:
                # A copy, then a deletion: a bucket cannot do it in one.
                await self._obstore.rename_async(self._store, key, to)
            except FileNotFoundError:
                return False
        return True

    async def delete(self, key: str) -> None:
        with self._errors(f"delete {key}"):
            try:
                await self._obstore.delete_async(self._store, key)
            except FileNotFoundError:
                return

    async def listing(self, prefix: str) -> AsyncIterator[StoredBlob]:
        with self._errors(f"list {prefix}"):
            found = self._obstore.list(self._store, prefix, chunk_size=LISTED_AT_ONCE)
            async for chunk in found:
                for each in chunk:
                    yield _stored(each)

    async def close(self) -> None:
        """The client's connections are closed with it."""

    @contextmanager
    def _errors(self, action: str) -> Generator[None]:
        errors = self._obstore.exceptions
        try:
            yield
        except (
            errors.PermissionDeniedError,
            errors.UnauthenticatedError,
            errors.InvalidPathError,
            errors.NotSupportedError,
        ) as error:
            raise self._refused(action, error) from error
        except (errors.BaseError, OSError) as error:
            raise BlobUnavailableError(action, self._url, _reason(error)) from error

    def _refused(self, action: str, error: Exception) -> BlobStoreError:
        return BlobRefusedError(action, self._url, _reason(error))


def _open(url: str, options: Mapping[str, str]) -> tuple[Any, Any]:
    """The library, for which it is Any, and its store."""
    try:
        import obstore
        from obstore.store import from_url
    except ImportError as error:
        raise ConfigurationError(
            f"the blob store {url} needs the package obstore; pip install 'stepfold[blobs]'"
        ) from error
    library: Any = obstore
    client: dict[str, object] = {"timeout": REQUEST_TIMEOUT}
    client.update({name: each for name, each in options.items() if name in CLIENT_OPTIONS})
    config = {name: each for name, each in options.items() if name not in CLIENT_OPTIONS}
    try:
        # Tries are repeated one level up, for all stores alike.
        open_url: Any = from_url
        store = open_url(
            url, config=config or None, client_options=client, retry_config={"max_retries": 0}
        )
    except (library.exceptions.BaseError, ValueError) as error:
        raise ConfigurationError(
            f"the blob store {url} cannot be opened: {_reason(error)}; "
            f"options given: {', '.join(sorted(options)) or 'none'}"
        ) from error
    return library, store


def _stored(found: Any) -> StoredBlob:
    return StoredBlob(
        key=found["path"], size_bytes=found["size"], modified_at=found["last_modified"]
    )


def _reason(error: Exception) -> str:
    """Its first line: a dump of the request follows, which nobody should find in a log."""
    return str(error).split("\n", 1)[0]
