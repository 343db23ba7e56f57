"""Accounts as containers have them: a uid without an entry, no HOME, a checkout of somebody else."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline_steps.repositories.kinds import open_writable
from tests.support.charts import packed
from tests.support.helms import helm
from tests.support.release_line import Line

UID = 12345
#: Everything is imported before the uid is changed: this Python may lie in a closed home.
CHANGE_UID = """
import os, sys
import pipeline_steps.commands.run, pipeline_steps.commands.steps
from pipeline_steps.__main__ import main
uid, groups = int(os.environ["UID_OF_TEST"]), os.environ["GROUPS_OF_TEST"].split()
os.umask(0o077); os.setgroups([*map(int, groups)]); os.setgid(uid); os.setuid(uid)
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture
def line() -> Iterator[Line]:
    """A checkout in a folder that every account can reach, as pytest's own folders cannot."""
    with tempfile.TemporaryDirectory(prefix="accounts-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        shutil.copy2(helm(4), folder / "helm")
        (folder / "tmp").mkdir(mode=0o700)
        os.chown(folder / "tmp", UID, UID)
        yield Line(folder)


def as_nobody(
    line: Line, *words: str, uid: int = UID, groups: str = "", **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run a command as a uid that the user database does not know, without HOME."""
    if os.geteuid():
        pytest.fail("changing the uid needs root")
    return subprocess.run(
        [sys.executable, "-c", CHANGE_UID, *words],
        cwd=line.repo.root,
        env={
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "PYTHONPATH": str(Path(__file__).parents[2]),
            "TMPDIR": str(line.folder / "tmp"),
            "PIPELINE_STEPS_HELM": str(line.folder / "helm"),
            "UID_OF_TEST": str(uid),
            "GROUPS_OF_TEST": groups,
            **variables,
        },
        capture_output=True,
        text=True,
    )


def test_a_uid_without_an_entry_and_without_home_does_the_steps(line: Line) -> None:
    for place in (line.folder, *line.folder.rglob("*")):
        os.chown(place, UID, UID, follow_symlinks=False)
    for step in ("check", "snapshot"):
        done = as_nobody(line, step, "--chart", "common")
        assert done.returncode == 0, done.stderr
    done = as_nobody(line, "run", "check")
    assert done.returncode == 7 and "set HOME, XDG_STATE_HOME" in done.stderr, done.stderr


def test_settings_of_git_in_the_environment_reach_git(line: Line) -> None:
    """`safe.directory` by GIT_CONFIG_COUNT was dropped, and the advice could not work."""
    (line.repo.root / ".pipeline").mkdir()
    os.chown(line.repo.root / ".pipeline", UID, UID)
    refused = as_nobody(line, "check", "--all")
    assert refused.returncode == 7 and "safe.directory" in refused.stderr, refused.stderr
    done = as_nobody(
        line,
        "check",
        "--all",
        GIT_CONFIG_COUNT="1",
        GIT_CONFIG_KEY_0="safe.directory",
        GIT_CONFIG_VALUE_0=str(line.repo.root),
    )
    assert done.returncode == 0, done.stderr


def test_a_folder_that_may_not_be_entered_is_named(line: Line) -> None:
    line.repo.root.chmod(0o700)
    done = as_nobody(line, "check", "--all")
    assert done.returncode == 7, done.stderr
    assert f"{line.repo.root}: this account may not look into the folder" in done.stderr


def test_two_accounts_of_a_group_publish_into_one_folder(line: Line) -> None:
    """The lock was made for its first account alone, and the others got 7 for ever."""
    group = 54321
    shared = line.folder / "shared"
    shared.mkdir()
    os.chown(shared, 0, group)
    shared.chmod(0o2775)
    charts, evidence = (shared / name for name in ("charts", "evidence"))
    for number, uid in enumerate((UID, UID + 1, UID)):
        old = line.folder / f"old{number}"
        open_writable(old.as_uri(), {}).publish(packed("web", f"1.{number}.0"))
        home = line.folder / f"home{number}"
        home.mkdir()
        os.chown(home, uid, uid)
        (home / "pipeline.yaml").write_text(f"charts: []\nevidence: {evidence.as_uri()}\n")
        words = ("regenerate", "--from", old.as_uri(), "--to", charts.as_uri())
        done = as_nobody(
            line, *words, "--state", str(home / "state.jsonl"), "--config",
            str(home / "pipeline.yaml"), uid=uid, groups=str(group), TMPDIR=str(home),
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
    assert len(list(charts.glob("*.tgz"))) == 3
    assert len(list((evidence / "records").glob("*/*.json"))) > 3
    for place in shared.rglob("*"):
        mode = place.stat().st_mode
        assert place.stat().st_gid == group and mode & 0o040, place
        if place.is_dir() or place.parent == charts:
            assert mode & 0o020, place
