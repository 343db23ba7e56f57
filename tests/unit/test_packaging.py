"""What is shipped, that it installs, and that a checkout under test cannot run code of its own in
our process.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DISTRIBUTION = "pipeline_steps-0.1.0"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel and the sdist, built from what is tracked or would be."""
    folder = tmp_path_factory.mktemp("dist")
    source = tmp_path_factory.mktemp("source") / "pipeline_steps"
    names = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = (
        subprocess.run(names, cwd=ROOT, capture_output=True, check=True).stdout.decode().split("\0")
    )
    for name in filter(None, listed):
        if (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    command = [
        sys.executable,
        "-m",
        "build",
        "--no-isolation",
        "--outdir",
        str(folder),
        str(source),
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (folder / "source").write_text(str(source))
    return folder


def templates() -> set[str]:
    """What the pages are made with, as paths in the wheel."""
    folder = ROOT / "pipeline_steps/reporting/templates"
    return {path.relative_to(ROOT).as_posix() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def modules(built: Path) -> set[str]:
    """Every module of the package as it was when it was built, as a path in the wheel."""
    source = Path((built / "source").read_text())
    return {
        path.relative_to(source).as_posix() for path in (source / "pipeline_steps").rglob("*.py")
    }


def test_the_wheel_holds_the_package_and_nothing_else(built: Path, modules: set[str]) -> None:
    with zipfile.ZipFile(next(built.glob("*.whl"))) as wheel:
        names = {
            name for name in wheel.namelist() if not name.startswith(f"{DISTRIBUTION}.dist-info/")
        }
        metadata = wheel.read(f"{DISTRIBUTION}.dist-info/METADATA").decode()
        entries = wheel.read(f"{DISTRIBUTION}.dist-info/entry_points.txt").decode()
        licenses = [name for name in wheel.namelist() if name.endswith("LICENSE")]
    assert {name for name in names if name.endswith(".py")} == modules
    others = {name for name in names if not name.endswith(".py")}
    assert others == {"pipeline_steps/py.typed", *templates()}
    assert all(name.startswith("pipeline_steps/") for name in names)
    assert all(name.endswith((".json", "py.typed", ".j2", ".html", ".css")) for name in others), (
        others
    )
    assert "pipeline-steps = pipeline_steps.__main__:entry" in entries
    assert "Requires-Python: >=3.10" in metadata
    assert licenses


def test_the_sdist_can_be_built_from_and_read(built: Path, modules: set[str]) -> None:
    with tarfile.open(next(built.glob("*.tar.gz"))) as sdist:
        names = {name.partition("/")[2] for name in sdist.getnames()}
    assert {"setup.cfg", "pyproject.toml", "README.md", "LICENSE", *modules, *templates()} <= names
    assert not [
        name for name in names if ".venv" in name or ".demo" in name or "__pycache__" in name
    ]


def test_setup_cfg_holds_the_settings_and_pyproject_only_the_build_system() -> None:
    sections = [
        line for line in (ROOT / "pyproject.toml").read_text().splitlines() if line.startswith("[")
    ]
    assert sections == ["[build-system]"]
    assert "python_files = test_*.py" in (ROOT / "setup.cfg").read_text()


def test_all_package_data_is_there() -> None:
    import configparser

    settings = configparser.ConfigParser()
    settings.read(ROOT / "setup.cfg")
    for package, patterns in settings["options.package_data"].items():
        for pattern in patterns.split(","):
            assert list((ROOT / package).glob(pattern.strip())), (
                f"{package}: {pattern} names nothing"
            )


def test_pins_cover_what_setup_cfg_asks_for() -> None:
    import configparser
    import re

    settings = configparser.ConfigParser()
    settings.read(ROOT / "setup.cfg")
    wanted = {
        re.split(r"[><=~! ]", line)[0]
        for line in settings["options"]["install_requires"].split("\n")
        if line
    }
    pinned = [
        line
        for line in (ROOT / "requirements/run.txt").read_text().splitlines()
        if not line.startswith("#")
    ]
    assert wanted <= {line.partition("==")[0] for line in pinned}
    assert all("==" in line for line in pinned)


def test_it_installs_into_a_fresh_environment(built: Path, tmp_path: Path) -> None:
    """Dependencies are this environment's; the package itself comes from the wheel alone."""
    venv.create(tmp_path / "venv", with_pip=True, symlinks=True)
    python = tmp_path / "venv/bin/python"
    wheel = str(next(built.glob("*.whl")))
    install = [str(python), "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", wheel]
    done = subprocess.run(install, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    ours = next(Path(entry) for entry in sys.path if entry.endswith("site-packages"))
    place = subprocess.run(
        [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        capture_output=True,
        text=True,
    )
    (Path(place.stdout.strip()) / "dependencies.pth").write_text(f"{ours}\n")
    program = tmp_path / "venv/bin/pipeline-steps"
    shown = subprocess.run([program, "list"], cwd=tmp_path, capture_output=True, text=True)
    assert shown.returncode == 0, shown.stderr
    assert "snapshot" in shown.stdout
    (tmp_path / "state.jsonl").touch()
    made = subprocess.run(
        [program, "state", "html", "--state", "state.jsonl"], cwd=tmp_path, capture_output=True
    )
    assert made.returncode == 0, made.stderr
    assert "No records yet" in (tmp_path / "state.html").read_text(), (
        "templates are found where it is installed"
    )


HOSTILE = (
    "yaml",
    "msgspec",
    "docker",
    "rich",
    "jinja2",
    "kubernetes",
    "urllib3",
    "logging",
    "json",
)


def hostile_checkout(folder: Path) -> Path:
    """A checkout whose files run something when they are imported or called; returns what would
    prove it.
    """
    proof = folder / "ran"
    for name in HOSTILE:
        (folder / f"{name}.py").write_text(f"open({str(proof)!r}, 'a').write({name!r})\n")
    (folder / "sitecustomize.py").write_text(f"open({str(proof)!r}, 'a').write('sitecustomize')\n")
    for name in ("helm", "git", "docker"):
        (folder / name).write_text(f"#!/bin/sh\necho {name} >> {proof}\n")
        (folder / name).chmod(0o755)
    (folder / "charts/web").mkdir(parents=True)
    (folder / "charts/web/Chart.yaml").write_text("apiVersion: v2\nname: web\nversion: 0.1.0\n")
    (folder / "pipeline.yaml").write_text(
        "charts: [{path: charts/*}]\nchannels:\n  snapshot: {images: 'localhost:1/x', charts: 'file:///nowhere/charts'}\n"
    )
    clean = {"GIT_CONFIG_GLOBAL": "/dev/null", "PATH": os.environ["PATH"]}
    for words in (
        ["init", "-q"],
        ["add", "-A"],
        ["-c", "user.name=x", "-c", "user.email=x@x", "commit", "-qm", "x"],
    ):
        subprocess.run(["git", *words], cwd=folder, check=True, env=clean)
    return proof


@pytest.mark.parametrize(
    "words",
    [
        ["pipeline_steps.snapshot"],
        ["pipeline_steps", "snapshot"],
        ["pipeline_steps.check"],
        ["pipeline_steps", "list"],
    ],
)
@pytest.mark.parametrize("before", ["", ":", ".:"])
def test_files_of_the_checkout_are_never_run(words: list[str], before: str, tmp_path: Path) -> None:
    proof = hostile_checkout(tmp_path)
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    environment["PATH"] = f"{before}{environment['PATH']}"
    done = subprocess.run(
        [sys.executable, "-m", *words],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert not proof.exists(), f"{proof.read_text()} was run"
    assert done.returncode in (0, 7, 8), done.stderr
    assert "Traceback" not in done.stderr, done.stderr
