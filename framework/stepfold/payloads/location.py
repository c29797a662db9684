"""The blob store that a URL or a path means."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from urllib.parse import unquote, urlsplit

from stepfold.core.errors import ConfigurationError
from stepfold.payloads.bucket import BucketStore
from stepfold.payloads.folder import FolderStore
from stepfold.payloads.memory import MemoryStore
from stepfold.payloads.port import BlobStore

BUCKET_SCHEMES = ("s3", "gs", "az")


def open_store(location: str, options: Mapping[str, str] | None = None) -> BlobStore:
    """Opens nothing yet: that it cannot be reached shows at the first call.

    Raises ConfigurationError for a location or an option that cannot be.
    """
    options = options or {}
    scheme = urlsplit(location).scheme if "://" in location else ""
    if scheme in BUCKET_SCHEMES:
        return BucketStore(location, options)
    if options:
        raise ConfigurationError(
            f"the blob store {location} takes no options, got {', '.join(sorted(options))}; "
            f"only those at {', '.join(f'{each}://' for each in BUCKET_SCHEMES)} do"
        )
    if scheme == "memory":
        return MemoryStore()
    return FolderStore(_folder(location, scheme))


def _folder(location: str, scheme: str) -> Path:
    parts = urlsplit(location) if scheme else None
    if parts is None and location.strip():
        return Path(location).expanduser()
    if parts is not None and scheme == "file" and not parts.netloc and parts.path.strip("/"):
        return Path(unquote(parts.path))
    raise ConfigurationError(
        f"the blob store {location!r} is none of: a path, file:///path, s3://bucket/path, "
        "gs://bucket/path, az://account/container/path, memory://"
    )
