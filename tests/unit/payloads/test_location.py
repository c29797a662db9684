"""Which store a location means."""

from __future__ import annotations

from pathlib import Path

import pytest

from stepfold.core.errors import ConfigurationError
from stepfold.payloads.bucket import BucketStore
from stepfold.payloads.folder import FolderStore
from stepfold.payloads.location import open_store
from stepfold.payloads.memory import MemoryStore


@pytest.mark.parametrize(
    ("location", "place"),
    [
        ("/var/lib/blobs", "/var/lib/blobs"),
        ("file:///var/lib/blobs", "/var/lib/blobs"),
        ("file:///var/lib/my%20blobs", "/var/lib/my blobs"),
        (".stepfold/blobs", str(Path.cwd() / ".stepfold/blobs")),
        ("~/blobs", str(Path.home() / "blobs")),
    ],
)
def test_path_or_file_url_means_a_folder(location: str, place: str) -> None:
    store = open_store(location)

    assert isinstance(store, FolderStore)
    assert store.place == place


@pytest.mark.parametrize(
    ("location", "options"),
    [
        ("s3://bucket/prefix", {"region": "eu-west-1", "allow_http": "true"}),
        ("gs://bucket/prefix", {}),
        ("az://account/container", {"account_name": "account"}),
    ],
)
def test_url_of_a_provider_means_a_bucket(location: str, options: dict[str, str]) -> None:
    store = open_store(location, options)

    assert isinstance(store, BucketStore)
    assert store.place == location


def test_memory_is_for_tests() -> None:
    assert isinstance(open_store("memory://"), MemoryStore)


@pytest.mark.parametrize(
    "location", ["", " ", "ftp://host/x", "file://host/x", "file:///", "http://x"]
)
def test_location_that_means_nothing_is_refused_with_what_would(location: str) -> None:
    with pytest.raises(ConfigurationError, match="none of: a path, file:///path, s3://bucket"):
        open_store(location)


def test_options_of_a_folder_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="takes no options, got region"):
        open_store("/var/lib/blobs", {"region": "eu-west-1"})
