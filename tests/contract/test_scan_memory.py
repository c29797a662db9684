"""The contract of scans, on the log in memory and on exported files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from stepfold.journal.memory import MemoryCluster
from stepfold.journal.memory_scan import MemoryScan
from stepfold.journal.port import Scan
from stepfold.verify.export import ExportedLog, export
from tests.contract.scan_contract import (
    HEADERS,
    PARTITIONS,
    ScanContract,
    SendableScanContract,
    World,
)


class MemoryWorld(World):
    def __init__(self) -> None:
        self.cluster = MemoryCluster()
        self.cluster.create_app("app", PARTITIONS)

    def write(self, partition: int, values: Sequence[bytes]) -> None:
        for value in values:
            self.cluster.append(self.topic, partition, b"key", value, HEADERS)

    def delete_before(self, partition: int, offset: int) -> None:
        self.cluster.delete_records(self.topic, partition, offset)

    def scan(self) -> Scan:
        return MemoryScan(self.cluster)


class ExportedWorld(MemoryWorld):
    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder

    def scan(self) -> Scan:
        export(MemoryScan(self.cluster), "app", self._folder)
        return ExportedLog("app", [self._folder])


class TestMemory(ScanContract):
    @pytest.fixture
    def world(self) -> MemoryWorld:
        return MemoryWorld()


class TestExported(ScanContract, SendableScanContract):
    @pytest.fixture
    def world(self, tmp_path: Path) -> ExportedWorld:
        return ExportedWorld(tmp_path)
