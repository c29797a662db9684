"""What a user installs is complete: built, installed apart from the sources, and asked to work.

The wheel is built from the source distribution, as an installer without wheels would do it. It goes
into an environment of its own that borrows this one's dependencies by path, so nothing is fetched;
the editable install of this checkout is not visible there.
"""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
COMMAND_TIMEOUT_SECONDS = 90
PACKAGES = {
    "stepfold": ROOT / "framework" / "stepfold",
    "stepfold_projections": ROOT / "projections" / "stepfold_projections",
    "stepfold_topics": ROOT / "topics" / "stepfold_topics",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    wheel: Path
    source: Path
    environment: Path

    @property
    def site_packages(self) -> Path:
        version = f"python{sys.version_info.major}.{sys.version_info.minor}"
        return self.environment / "lib" / version / "site-packages"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    folder = tmp_path_factory.mktemp("wheel")
    out, environment = folder / "dist", folder / "environment"
    _run(sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), cwd=ROOT)
    found = Built(
        wheel=next(out.glob("*.whl")), source=next(out.glob("*.tar.gz")), environment=environment
    )
    _run(sys.executable, "-m", "venv", "--without-pip", str(environment), cwd=folder)
    # A folder named in a .pth file is searched, but the .pth files inside it are not obeyed: the
    # dependencies are found there and this checkout is not.
    borrowed = found.site_packages / "borrowed.pth"
    borrowed.write_text(sysconfig.get_paths()["purelib"])
    python = str(environment / "bin" / "python")
    _run(
        *(sys.executable, "-m", "pip", "--python", python, "install", "--quiet"),
        *("--no-index", "--no-deps", "--force-reinstall", str(found.wheel)),
        cwd=folder,
    )
    return found


def test_wheel_holds_every_file_of_the_packages(built: Built) -> None:
    held = set(zipfile.ZipFile(built.wheel).namelist())

    missing = _package_files() - held

    assert not missing, f"not in the wheel: {sorted(missing)}"
    assert {f"{package}/py.typed" for package in PACKAGES} <= held


def test_wheel_holds_the_schemas_and_the_lock_of_the_kafka_jars(built: Built) -> None:
    held = zipfile.ZipFile(built.wheel).namelist()

    assert any(name.endswith(".avsc") for name in held)
    assert any(name.endswith("kafka.lock.json") for name in held)


def test_source_distribution_holds_the_licence_and_the_readme(built: Built) -> None:
    with tarfile.open(built.source) as archive:
        names = {name.split("/", 1)[-1] for name in archive.getnames()}

    assert {"LICENSE", "README.md", "CHANGELOG.md", "pyproject.toml"} <= names


@pytest.mark.parametrize("package", PACKAGES)
def test_installed_package_is_imported_from_its_own_environment(
    built: Built, package: str, tmp_path: Path
) -> None:
    python = str(built.environment / "bin" / "python")
    printed = _run(python, "-I", "-c", f"import {package} as it; print(it.__file__)", cwd=tmp_path)

    assert Path(printed.strip()).is_relative_to(built.site_packages)


def test_installed_command_answers_help(built: Built, tmp_path: Path) -> None:
    printed = _run(str(built.environment / "bin" / "stepfold"), "--help", cwd=tmp_path)

    assert "demo" in printed
    assert "worker" in printed


def test_installed_sandbox_runs_the_documented_test(built: Built, tmp_path: Path) -> None:
    text = (ROOT / "docs" / "testing.md").read_text()
    example = text.split("```python\n")[1].split("```")[0]
    script = tmp_path / "documented.py"
    script.write_text(f"{example}\n\ntest_search_is_tried_again_and_survives_a_crash()\n")

    _run(str(built.environment / "bin" / "python"), "-I", str(script), cwd=tmp_path)


def _package_files() -> set[str]:
    """Tracked or about to be, by the name that each has in the wheel."""
    names: set[str] = set()
    for package, folder in PACKAGES.items():
        command = ("git", "ls-files", "--cached", "--others", "--exclude-standard", "-z", ".")
        listed = _run(*command, cwd=folder).split("\0")
        names |= {f"{package}/{name}" for name in listed if name and (folder / name).is_file()}
    return names


def _run(*command: str, cwd: Path) -> str:
    finished = subprocess.run(
        command,
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=COMMAND_TIMEOUT_SECONDS,
        check=False,
    )
    assert finished.returncode == 0, f"{' '.join(command)}:\n{finished.stdout}{finished.stderr}"
    return finished.stdout
