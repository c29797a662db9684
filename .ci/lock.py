"""Write the two lock files: what `make demo` needs, and all that `make test` needs.

Every requirement is pinned with the hashes of its files, so an install fails rather than takes
something else. No address of an index is written: where packages come from is the business of the
machine that installs them. Versions already locked stay, unless `--upgrade` is given.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DEMO_EXTRAS = ("local", "projections")


def main() -> None:
    upgrade = "--upgrade" in sys.argv[1:]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    extras = project["project"]["optional-dependencies"]
    # The build backend is locked too: the editable install then needs no isolated environment.
    always = project["project"]["dependencies"] + project["build-system"]["requires"]
    demo = always + [each for name in DEMO_EXTRAS for each in extras[name]]
    everything = always + [each for extra in extras.values() for each in extra]
    everything += project["dependency-groups"]["dev"]

    compile_lock("requirements-dev.lock", everything, upgrade=upgrade)
    # Constrained by the larger lock, so that demo and tests never differ in a version.
    compile_lock("requirements.lock", demo, upgrade=upgrade, constraint="requirements-dev.lock")


def compile_lock(
    name: str, wanted: list[str], *, upgrade: bool, constraint: str | None = None
) -> None:
    command = [str(Path(sys.executable).parent / "pip-compile"), "--quiet", "--generate-hashes"]
    command += ["--allow-unsafe", "--strip-extras", "--no-header", "--no-annotate"]
    command += ["--no-emit-index-url", "--no-emit-trusted-host", "--no-emit-find-links"]
    command += ["--no-emit-options", f"--output-file={name}"]
    command += ["--upgrade"] if upgrade else []
    command += ["--constraint", constraint] if constraint else []
    with tempfile.NamedTemporaryFile("w", suffix=".in") as requirements:
        requirements.write("\n".join(wanted))
        requirements.flush()
        subprocess.run([*command, requirements.name], cwd=ROOT, check=True)


if __name__ == "__main__":
    main()
