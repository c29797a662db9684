"""Exported files hold what the log holds, and say so when they do not."""

from __future__ import annotations

from pathlib import Path

import pytest

from stepfold.core.errors import ConfigurationError, NotFoundError
from stepfold.journal.port import Extent, LogRecord
from stepfold.verify.app import verify_app
from stepfold.verify.export import ExportedLog, export, write_partition
from tests.unit.verify.logs import APP, DLQ, HISTORY, INBOX, Log, completed, run_completed, started

EXTENT = Extent("topic-id", 3, 6, 6)


def record(offset: int, value: bytes | None = b"value") -> LogRecord:
    headers = [("sf-kind", b"Some"), ("empty", b""), ("naïve", "ü".encode())]
    return LogRecord(HISTORY, 2, offset, 7, 1_700_000_000_000 + offset, b"key", value, headers)


def written(folder: Path, *records: LogRecord) -> Path:
    path = folder / "some.records"
    write_partition(path, HISTORY, 2, EXTENT, [records[:1], records[1:]])
    return path


def read(path: Path, *, first: int = 0, end: int = 100, headers: bool = True) -> list[LogRecord]:
    scan = ExportedLog(APP, [path])
    batches = scan.read(HISTORY, 2, first, end, with_headers=headers)
    return [record for batch in batches for record in batch]


def test_records_come_back_as_they_went(tmp_path: Path) -> None:
    records = [record(3), record(4, None)._replace(key=None, headers=[]), record(5, b"")]
    path = written(tmp_path, *records)

    scan = ExportedLog(APP, [path])

    assert read(path) == records
    assert (scan.partitions(HISTORY), scan.partitions(INBOX)) == ([2], [])
    assert scan.extent(HISTORY, 2) == EXTENT


def test_part_of_a_file_can_be_read_and_headers_left_out(tmp_path: Path) -> None:
    path = written(tmp_path, record(3), record(4), record(5))

    assert [each.offset for each in read(path, first=4, end=5)] == [4]
    assert [tuple(each.headers) for each in read(path, headers=False)] == [(), (), ()]


def test_large_records_are_put_together_from_pieces(tmp_path: Path) -> None:
    records = [record(3, b"x" * 900_000), record(4, b"y" * 900_000), record(5, b"z" * 900_000)]

    assert read(written(tmp_path, *records)) == records


def test_app_is_exported_whole_and_checks_as_it_did(tmp_path: Path) -> None:
    log = Log().open()
    run = log.accept()
    log.append(started(run, "plan"))
    log.append(completed(run, "plan"))
    log.append(run_completed(run))
    log.reject()

    files = export(log.scan, APP, tmp_path / "new" / "folder")
    report = verify_app(ExportedLog(APP, files), APP, processes=1).report

    assert len(files) == 4
    assert report.violations == []
    assert report.kinds == log.check().kinds
    assert report.source_records == 2


def test_folder_stands_for_the_files_in_it(tmp_path: Path) -> None:
    log = Log().open()
    export(log.scan, APP, tmp_path)

    assert ExportedLog(APP, [tmp_path]).partitions(DLQ) == [0]


def test_file_that_is_there_already_is_not_overwritten(tmp_path: Path) -> None:
    log = Log().open()
    export(log.scan, APP, tmp_path)

    with pytest.raises(ConfigurationError, match="is there already"):
        export(log.scan, APP, tmp_path)


@pytest.mark.parametrize("cut", [1, 20, 40, 100])
def test_file_that_was_cut_off_is_refused(tmp_path: Path, cut: int) -> None:
    path = written(tmp_path, record(3), record(4))
    path.write_bytes(path.read_bytes()[:-cut])

    with pytest.raises(ConfigurationError, match="is damaged: it ends in the middle"):
        read(path)


def test_file_that_lacks_a_record_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path, record(3), record(4))
    whole = path.read_bytes()
    size = (len(whole) - whole.index(b"\n", 20) - 1 - 36) // 2
    path.write_bytes(whole[: -36 - size] + whole[-36:])

    with pytest.raises(ConfigurationError, match="tells of 2 records and holds 1"):
        read(path)


def test_file_of_somebody_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("no export")

    with pytest.raises(ConfigurationError, match="is no exported partition"):
        ExportedLog(APP, [path])


def test_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot be read: No such file"):
        ExportedLog(APP, [tmp_path / "missing.records"])


def test_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="holds no"):
        ExportedLog(APP, [tmp_path])


def test_file_of_another_app_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path, record(3))

    with pytest.raises(ConfigurationError, match=r"holds research\.history, which is no topic"):
        ExportedLog("other", [path])


def test_same_partition_twice_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path, record(3))
    copy = tmp_path / "copy.records"
    copy.write_bytes(path.read_bytes())

    with pytest.raises(ConfigurationError, match=r"both hold research\.history/2"):
        ExportedLog(APP, [path, copy])


def test_partition_that_no_file_holds_is_not_found(tmp_path: Path) -> None:
    scan = ExportedLog(APP, [written(tmp_path, record(3))])

    with pytest.raises(NotFoundError, match=r"no file holds research\.inbox/0"):
        scan.extent(INBOX, 0)
