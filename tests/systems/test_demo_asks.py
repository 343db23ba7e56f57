"""`make demo` says what it will install and asks a person first: on a real terminal, and without
one.

After a yes nothing can be fetched here, from PyPI or as a Go module: that it goes on is seen by
what it tries.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.terminal import Shown, on_terminal
from tools.demo import demo
from tools.programs import programs

DEMO = [sys.executable, str(Path(demo.__file__)), "up"]
GONE_ON = f"helm4 {programs.PROGRAMS['helm4'].version}: getting it"


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """A machine that has none of the demo's programs yet, and no way to them."""
    nothing = {
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": "",
        "GOPROXY": "off",
        "GOMODCACHE": str(tmp_path / "modules"),
    }
    return {**os.environ, **nothing, "XDG_CACHE_HOME": str(tmp_path / "cache")}


def asked(environment: dict[str, str], answer: str, *words: str) -> Shown:
    return on_terminal([*DEMO, *words], demo.ROOT, environment, answer=answer)


def test_it_says_what_goes_where_before_it_asks(environment: dict[str, str]) -> None:
    output = asked(environment, "n\n").text.partition("Go on? [Y/n]")[0]
    assert "make demo installs what this machine lacks:\n" in output
    cache = f"{environment['XDG_CACHE_HOME']}/pipeline-steps"
    helm = programs.PROGRAMS["helm4"]
    assert f"  helm4 {helm.version} ({helm.source}) into {cache}\n" in output
    assert "  kubernetes v" in output and "about 7 minutes on 2 cores" in output


@pytest.mark.parametrize(
    "answer", ["n\n", "No\n", "perhaps\n", "\x04"], ids=["n", "No", "perhaps", "Ctrl-D"]
)
def test_who_does_not_say_yes_gets_nothing_installed(
    environment: dict[str, str], answer: str
) -> None:
    shown = asked(environment, answer)
    assert (shown.code, GONE_ON in shown.text) == (7, False), shown.text
    assert shown.text.rstrip().endswith("demo.py: not confirmed: nothing was installed")
    assert not Path(environment["XDG_CACHE_HOME"]).exists()


def test_interrupted_while_it_asks_it_ends_without_a_traceback(environment: dict[str, str]) -> None:
    shown = asked(environment, "\x03")
    assert shown.code == 130
    assert shown.text.rstrip().endswith("demo.py: interrupted")
    assert not Path(environment["XDG_CACHE_HOME"]).exists()


@pytest.mark.parametrize("answer", ["y\n", "YES\n", "\n"], ids=["y", "YES", "Return"])
def test_the_demo_continues_after_yes(environment: dict[str, str], answer: str) -> None:
    shown = asked(environment, answer)
    assert GONE_ON in shown.text.partition("Go on? [Y/n]")[2], shown.text
    assert shown.code == 7 and "Traceback" not in shown.text


def test_with_yes_on_the_command_line_it_does_not_ask(environment: dict[str, str]) -> None:
    shown = asked(environment, "n\n", "--yes")
    assert "[Y/n]" not in shown.text and GONE_ON in shown.text


def test_without_a_terminal_it_says_the_same_and_goes_on(environment: dict[str, str]) -> None:
    completed = subprocess.run(
        DEMO, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=600
    )
    assert completed.stderr.startswith("make demo installs what this machine lacks:\n")
    assert "[Y/n]" not in completed.stderr and GONE_ON in completed.stderr
    assert (completed.returncode, completed.stdout) == (7, ""), completed.stderr
