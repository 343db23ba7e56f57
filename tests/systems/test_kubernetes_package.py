"""The same contract with every major of the `kubernetes` package that setup.cfg allows: no other
one is tried out.
"""

from __future__ import annotations

import configparser
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import machine
from tools.machine import cache, installed_at_once, locked

ROOT = Path(__file__).resolve().parents[2]
#: The first version of each major but the pinned one, which all other tests run with; six is what
#: only they need.
OLDER = {36: ("kubernetes==36.0.0", "six==1.17.0")}
SCRIPTED = ["tests/unit/test_clusters_kubernetes.py"]
REAL = [
    "tests/systems/test_cluster.py",
    "-k",
    "leaves_its_log or given_namespace or login_for_pulls or told_apart",
]


def package(major: int) -> Path:
    """A folder to import that major from, installed once."""
    folder = cache() / "python" / "+".join(OLDER[major])
    with locked(folder.with_suffix(".lock"), folder.name):
        if not folder.exists():
            with installed_at_once(folder) as aside:
                install = [
                    sys.executable,
                    "-m",
                    "pip",
                    "install",
                    "--quiet",
                    "--no-deps",
                    "--target",
                    str(aside),
                ]
                subprocess.run([*install, *OLDER[major]], check=True)
    return folder


@pytest.mark.parametrize("major", OLDER)
@pytest.mark.parametrize("tests", [SCRIPTED, REAL], ids=["scripted", "real"])
def test_an_older_major_does_the_same(
    tests: list[str], major: int, kubernetes_node: machine.Node
) -> None:
    environment = {**os.environ, "PYTHONPATH": str(package(major))}
    asked = "import kubernetes; print(kubernetes.__version__)"
    version = subprocess.run(
        [sys.executable, "-c", asked], env=environment, capture_output=True, text=True
    )
    assert version.stdout.startswith(f"{major}."), version
    command = [sys.executable, "-m", "pytest", "-q", *tests]
    completed = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert completed.returncode == 0, completed.stdout + completed.stderr


def test_no_other_major_is_allowed() -> None:
    settings = configparser.ConfigParser()
    settings.read(ROOT / "setup.cfg")
    pins = dict(
        line.split("==")
        for line in (ROOT / "requirements/run.txt").read_text().splitlines()
        if "==" in line
    )
    newest = int(pins["kubernetes"].partition(".")[0])
    majors = [*OLDER, newest]
    assert majors == list(range(min(majors), newest + 1))
    assert f"kubernetes>={majors[0]},<{newest + 1}" in settings["options"][
        "install_requires"
    ].split("\n")
