"""Schemas only grow: what a release wrote stays readable, and it can read what came after."""

from __future__ import annotations

import copy
import importlib
import io
import json
from pathlib import Path
from typing import Any

import pytest

from stepfold_topics import compatibility, schemas

fastavro: Any = importlib.import_module("fastavro")  # its stubs leave the buffer's type open

ADDED = {"name": "added", "type": "string", "default": ""}


def accepted() -> dict[str, Any]:
    schema: dict[str, Any] = json.loads(schemas.present()["RunAccepted"])
    return schema


def test_the_present_schemas_fit_every_release() -> None:
    assert compatibility.problems_of_all() == []


def test_a_released_set_is_complete_for_its_time() -> None:
    for version, texts in schemas.released().items():
        assert texts, f"{version} is empty"


def test_a_schema_fits_itself_and_other_words_about_it() -> None:
    reworded = accepted()
    reworded["doc"] = "Else."
    reworded["fields"][0]["type"] = {"type": "long"}

    assert compatibility.problems(accepted(), reworded) == []


def test_a_field_with_a_default_may_come_and_go() -> None:
    grown = accepted()
    grown["fields"].append(ADDED)
    (runs,) = (field for field in grown["fields"] if field["name"] == "runs")
    runs["type"]["items"]["fields"].append(ADDED)

    assert compatibility.problems(accepted(), grown) == []
    assert compatibility.problems(grown, accepted()) == []


def test_each_way_to_break_the_rule_is_named() -> None:
    old, new = accepted(), accepted()
    new["fields"] = [field for field in new["fields"] if field["name"] != "event_id"]
    new["fields"][2]["type"] = "int"
    new["fields"][3]["type"] = "long"
    new["fields"].append({"name": "added", "type": "string"})
    runs = next(field for field in new["fields"] if field["name"] == "runs")
    runs["type"]["items"]["fields"].append({"name": "more", "type": "long"})

    assert sorted(compatibility.problems(old, new)) == [
        "stepfold.v1.RunAccepted.added: added without a default",
        'stepfold.v1.RunAccepted.at: type changed from {"type": "long", "logicalType":'
        ' "timestamp-millis"} to "long"',
        "stepfold.v1.RunAccepted.event_id: removed, but it had no default",
        "stepfold.v1.RunAccepted.runs[].more: added without a default",
        'stepfold.v1.RunAccepted.seq: type changed from "long" to "int"',
    ]


def test_a_kind_is_neither_renamed_nor_removed() -> None:
    renamed = accepted()
    renamed["name"] = "RunTaken"
    texts = {"RunAccepted": json.dumps(accepted())}

    assert compatibility.problems(accepted(), renamed) == [
        "stepfold.v1.RunAccepted: renamed to stepfold.v1.RunTaken"
    ]
    assert compatibility.problems_of_sets(texts, {}) == [
        "RunAccepted: removed, but logs hold records of it"
    ]


@pytest.mark.parametrize("kind", ["StepCompleted", "Nudge"])
def test_what_the_rule_allows_avro_reads_both_ways(kind: str) -> None:
    old: dict[str, Any] = json.loads(schemas.present()[kind])
    new = copy.deepcopy(old)
    new["fields"].insert(0, ADDED)
    assert compatibility.problems(old, new) == []

    values = {field["name"]: _value(field["type"]) for field in old["fields"]}

    assert _through(old, new, values) == values | {"added": ""}
    assert _through(new, old, values | {"added": "x"}) == values


def test_a_release_is_kept_once_and_never_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schemas, "RELEASED_FOLDER", tmp_path / "released")

    assert schemas.released() == {}
    assert compatibility.main(["release", "9.9.9"]) == compatibility.EXIT_OK

    assert schemas.released() == {"9.9.9": schemas.present()}
    with pytest.raises(FileExistsError):
        compatibility.release("9.9.9")


def test_the_check_fails_when_a_released_kind_was_broken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(schemas, "RELEASED_FOLDER", tmp_path)
    broken = accepted()
    broken["fields"].append({"name": "gone", "type": "string"})
    (tmp_path / "0.0.9").mkdir()
    (tmp_path / "0.0.9" / "RunAccepted.avsc").write_text(json.dumps(broken))

    assert compatibility.main([]) == compatibility.EXIT_INCOMPATIBLE
    assert "0.0.9: stepfold.v1.RunAccepted.gone: removed" in capsys.readouterr().err


def test_the_check_explains_its_arguments(capsys: pytest.CaptureFixture[str]) -> None:
    assert compatibility.main(["what"]) == compatibility.EXIT_USAGE
    assert "usage" in capsys.readouterr().err


def _value(kind: Any) -> Any:
    if isinstance(kind, dict):
        return 1_790_000_000_000
    return {"long": 5, "string": "text", "bytes": b"\xff", "boolean": True}[kind]


def _through(written: dict[str, Any], read: dict[str, Any], values: dict[str, Any]) -> Any:
    plain = [json.loads(json.dumps(each).replace(TIME, LONG)) for each in (written, read)]
    buffer = io.BytesIO()
    fastavro.schemaless_writer(buffer, fastavro.parse_schema(plain[0]), values)
    buffer.seek(0)
    return fastavro.schemaless_reader(
        buffer, fastavro.parse_schema(plain[0]), fastavro.parse_schema(plain[1])
    )


TIME, LONG = '{"type": "long", "logicalType": "timestamp-millis"}', '"long"'
