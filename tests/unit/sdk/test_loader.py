"""Finding an app by name: what is missing or broken is said with its place."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from stepfold import NotBuiltError
from stepfold.core.errors import ConfigurationError
from stepfold.sdk.loader import load_app

Write = Callable[[str, str], None]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Writes modules into the working directory of the test."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    known = set(sys.modules)

    def write(name: str, text: str) -> None:
        path = tmp_path / f"{name.replace('.', '/')}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        for module in set(sys.modules) - known:
            monkeypatch.delitem(sys.modules, module)

    return write


def refusal(target: str) -> str:
    with pytest.raises(ConfigurationError) as caught:
        load_app(target)
    return str(caught.value)


def test_app_is_found_by_module_and_name(write: Write) -> None:
    write("agents_a.research", "from stepfold import App\nbot = App('research')\n")

    assert load_app("agents_a.research:bot").name == "research"


@pytest.mark.parametrize("target", ["", "agents", "agents:", ":app"])
def test_target_without_both_parts_is_shown_how_to_write_it(target: str) -> None:
    assert "write MODULE:APP, such as agents.research:app" in refusal(target)


def test_module_that_is_not_there_is_told_with_where_it_was_looked_for(
    write: Write, tmp_path: Path
) -> None:
    write("agents_b.research", "")

    assert f"there is no module 'nowhere' (looked in {tmp_path}" in refusal("nowhere:app")
    assert "there is no module 'agents_b.other'" in refusal("agents_b.other:app")


def test_module_that_misses_another_is_not_taken_for_missing(write: Write) -> None:
    write("agents_c", "import agents\n")

    assert "module 'agents_c' does not import: ModuleNotFoundError: No module named 'agents'" in (
        refusal("agents_c:app")
    )


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("import sys; sys.exit('no settings')", "SystemExit: no settings"),
        ("from stepfold import Retry; Retry(attempts=0)", "ValueError: attempts must be 1 to 1000"),
        ("from stepfold import App; App('Research')", "not a name for an app: 'Research'"),
        ("from stepfold import event; event('x', if_='event.')", "does not compile"),
        ("def (", "SyntaxError"),
    ],
)
def test_module_that_breaks_is_told_with_the_line_of_its_own(
    write: Write, tmp_path: Path, line: str, reason: str
) -> None:
    write("broken", f"\n\n{line}\n")

    message = refusal("broken:app")

    assert reason in message
    if "SyntaxError" not in reason:
        assert f"({tmp_path / 'broken.py'}:3)" in message


def test_option_that_is_not_built_keeps_its_kind_and_gets_its_place(
    write: Write, tmp_path: Path
) -> None:
    write("later", "from stepfold import App\nApp('later').workflow(batch=5)\n")

    with pytest.raises(NotBuiltError) as caught:
        load_app("later:app")

    assert caught.value.option == "batch="
    assert f"({tmp_path / 'later.py'}:2)" in str(caught.value)


def test_name_that_is_no_app_is_told_with_the_apps_there_are(write: Write) -> None:
    write("agents_d", "from stepfold import App\nbot, other = App('a'), App('b')\nnumber = 5\n")

    assert "has no 'app'; its apps: bot, other" in refusal("agents_d:app")
    assert "agents_d:number is a int, not a stepfold.App" in refusal("agents_d:number")
