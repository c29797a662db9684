"""The trace store on SQLite: the contract, and what only a file can have wrong."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from stepfold.core.errors import ConfigurationError
from stepfold_projections.service import open_store
from stepfold_projections.sqlstore import SqlStore
from stepfold_projections.store import TraceStore
from tests.contract.store_contract import OpenStore, StoreContract


class TestSqliteStore(StoreContract):
    @pytest.fixture
    def open_store(self, tmp_path: Path) -> Iterator[OpenStore]:
        opened: list[TraceStore] = []

        def open_store() -> TraceStore:
            store = SqlStore(f"sqlite:///{tmp_path / 'traces.db'}")
            store.open()
            opened.append(store)
            return store

        yield open_store
        for store in opened:
            store.close()


def test_store_of_another_version_is_refused_with_the_way_out(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'old.db'}"
    SqlStore(url).open()
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(text("UPDATE stepfold_meta SET value = '0'"))
    engine.dispose()

    with pytest.raises(ConfigurationError, match=r"version 0.*projections rebuild"):
        SqlStore(url).open()


def test_folder_of_the_store_is_made(tmp_path: Path) -> None:
    path = tmp_path / "new" / "traces.db"

    SqlStore(f"sqlite:///{path}").open()

    assert path.exists()


def test_file_that_is_no_database_is_refused_by_its_name(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("not a database at all, but long enough to be looked at" * 50)

    with pytest.raises(ConfigurationError, match=r"notes\.txt.*cannot be opened"):
        SqlStore(f"sqlite:///{path}").open()


def test_file_that_is_no_database_is_not_rebuilt_either(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    text_in_it = "not a database at all, but long enough to be looked at" * 50
    path.write_text(text_in_it)

    with pytest.raises(ConfigurationError, match=r"notes\.txt.*cannot be opened"):
        SqlStore(f"sqlite:///{path}").clear()

    assert path.read_text() == text_in_it


def test_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(ConfigurationError, match=r"file/traces\.db"):
        SqlStore(f"sqlite:///{tmp_path}/file/traces.db")


def test_password_of_a_store_is_not_shown() -> None:
    with pytest.raises(ConfigurationError) as caught:
        SqlStore("mysql://stepfold:topsecret@db/traces")

    assert "topsecret" not in str(caught.value)
    assert "mysql is not one of" in str(caught.value)


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:"])
def test_store_in_memory_is_refused_by_the_service(url: str) -> None:
    with pytest.raises(ConfigurationError, match="another database for each thread"):
        open_store(url)


@pytest.mark.parametrize("url", ["nonsense", "mongodb://x", "sqlite"])
def test_url_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(ConfigurationError, match="--store"):
        SqlStore(url)
