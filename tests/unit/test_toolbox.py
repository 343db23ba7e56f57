"""Processes, files, redaction: what steps rely on when things go wrong."""

import base64
import contextlib
import errno
import os
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline_steps.toolbox import clock, daemon, files, process, redact
from pipeline_steps.toolbox.errors import MachineError, ToolMissing


def test_missing_program_is_named_with_advice() -> None:
    with pytest.raises(
        ToolMissing, match=r"no-such-program is not installed \(install it with apt\)"
    ):
        process.run(["no-such-program"], advice="install it with apt")


def assert_gone(pid: str) -> None:
    """Within two seconds; a zombie is gone. One may also end between two looks."""
    deadline = time.monotonic() + 2
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        while "State:\tZ" not in Path(f"/proc/{pid}/status").read_text():
            assert time.monotonic() < deadline, "the child lives on"
            time.sleep(0.02)


def test_a_hung_program_and_its_children_are_ended() -> None:
    before = time.monotonic()
    done = process.run(
        ["sh", "-c", "trap '' TERM; sleep 60 & echo $!; sleep 60; sleep 60"], timeout=0.3
    )

    assert done.code is None and time.monotonic() - before < 4
    assert_gone(done.stdout.split()[0].decode())


def test_children_see_only_what_ci_passes_credentials_with(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HELM_NAMESPACE", "stray")
    monkeypatch.setenv("GIT_DIR", "/elsewhere")
    monkeypatch.setenv("DOCKER_CONFIG", "/ci/docker")
    seen = process.run(
        [sys.executable, "-c", "import os; print(sorted(os.environ))"]
    ).stdout.decode()

    assert "HELM_NAMESPACE" not in seen and "GIT_DIR" not in seen and "DOCKER_CONFIG" in seen


@given(
    st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=6, max_size=30),
    st.integers(0, 2),
)
def test_secrets_are_masked_in_every_form(secret: str, shift: int) -> None:
    redact.register(secret)
    encoded = base64.b64encode(b"u" * shift + secret.encode()).decode()

    for text in (secret, quote(secret, safe=""), encoded):
        assert secret not in redact.redact(f"<{text}>")
    inner = base64.b64encode(secret.encode()).decode().rstrip("=")[:-1]
    assert inner not in redact.redact(base64.b64encode(secret.encode()).decode())


def test_a_write_replaces_whole_files_and_leaves_nothing_beside(tmp_path: Path) -> None:
    path = tmp_path / "f"
    old = os.umask(0o077)
    try:
        files.write(path, b"one", mode=0o644)
        files.write(path, b"two", mode=0o644)
    finally:
        os.umask(old)

    assert path.read_bytes() == b"two" and path.stat().st_mode & 0o777 == 0o644
    assert [p.name for p in tmp_path.iterdir()] == ["f"]


def test_files_of_a_batch_get_their_names_together_or_not_at_all(tmp_path: Path) -> None:
    names = [tmp_path / name for name in "abc"]
    with files.Batch(mode=0o644) as batch:
        for path in names:
            batch.add(path, path.name.encode())
        batch.sync()
        assert not any(path.exists() for path in names)
        files.sweep_temporaries(tmp_path)  # another writer's
        batch.name(names[1:])
    assert sorted((path.name, path.read_text()) for path in tmp_path.iterdir()) == [
        ("b", "b"),
        ("c", "c"),
    ]


@pytest.mark.parametrize("count", [3, 300])
def test_a_file_of_a_batch_that_cannot_be_synced_is_named_and_none_is_left(
    count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:

    def fail_at_the_second(descriptor: int) -> None:
        if os.fstat(descriptor).st_size == len("1"):
            raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail_at_the_second)
    with (
        pytest.raises(
            MachineError, match="file-1: this account cannot write the file: Input/output error"
        ),
        files.Batch() as batch,
    ):
        for number in range(count):
            batch.add(tmp_path / f"file-{number}", b"x" if number == 1 else b"more")
        batch.sync()
    assert not list(tmp_path.iterdir())


def test_a_failed_write_names_the_file_and_keeps_the_old_one(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(MachineError, match="folder"):
        files.write(tmp_path / "folder", b"x")
    assert (tmp_path / "folder").is_dir() and len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("text", ["", "5", "m", "5x", "-5s", "5 m"])
def test_invalid_durations_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a duration"):
        clock.seconds(text)


def test_programs_in_the_working_folder_are_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("env", "only-here"):
        (tmp_path / name).write_text("#!/bin/sh\necho hostile\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.chdir(tmp_path)
    for path in (
        ":/usr/bin:/bin",
        ".:/usr/bin:/bin",
        "/usr/bin:/bin:",
        f"../{tmp_path.name}:/usr/bin:/bin",
    ):
        monkeypatch.setenv("PATH", path)
        shown = process.run(["env"], env={"PATH": path}).stdout.decode().splitlines()
        assert "PATH=/usr/bin:/bin" in shown
        assert process.require("env") == "/usr/bin/env"
        with pytest.raises(ToolMissing):
            process.run(["only-here"])
        with pytest.raises(ToolMissing):
            daemon.start(["only-here"], cwd=tmp_path, log=tmp_path / "log")
    assert process.run(["./only-here"], cwd=tmp_path).stdout == b"hostile\n"


STOPPED = """
import sys, time
from pipeline_steps.cli import boundary
from pipeline_steps.toolbox import process
def work():
    boundary.setup_logging(); boundary.handle_signals(); print("ready", flush=True)
    process.run(["sh", "-c", "trap '' TERM; echo $$ > pid; while :; do sleep 1; done"])
    return 0
sys.exit(boundary.run_main(work))
"""


INTERRUPTED = """
import os, signal, sys, threading
from pipeline_steps.cli import boundary
lines = 0
def trace(frame, event, _argument):
    global lines
    if (frame.f_code.co_filename, frame.f_code.co_name) == (threading.__file__, "start"):
        if event == "line":
            lines += 1
            if lines == int(sys.argv[1]):
                os.kill(os.getpid(), signal.SIGINT)
        return trace
def work():
    boundary.setup_logging(); boundary.handle_signals()
    thread = threading.Thread(target=int, daemon=True)
    sys.settrace(trace)
    thread.start()
    sys.settrace(None)
    return 0
sys.exit(boundary.run_main(work))
"""


def test_a_signal_while_a_thread_starts_ends_the_step() -> None:
    """`threading` holds a lock then, which a handler that starts threads would wait for for ever."""
    codes: list[int] = []
    while codes[-1:] != [0]:
        command = [sys.executable, "-c", INTERRUPTED, str(len(codes) + 1)]
        codes.append(subprocess.run(command, capture_output=True, timeout=60).returncode)
    assert len(codes) > 5, "each line of Thread.start"
    assert set(codes[:-1]) == {130}


@pytest.mark.parametrize("number", [15, 2, 1])
def test_a_signal_ends_the_step_within_four_seconds_and_its_children(
    tmp_path: Path, number: int
) -> None:
    step = subprocess.Popen(
        [sys.executable, "-c", STOPPED],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert step.stdout is not None and step.stdout.readline() == "ready\n"
    while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
        time.sleep(0.01)
    before = time.monotonic()
    step.send_signal(number)
    _, talk = step.communicate(timeout=60)

    assert step.returncode == 128 + number, talk
    assert time.monotonic() - before < 4
    assert f"stopped by signal {number}" in talk
    assert_gone((tmp_path / "pid").read_text().strip())
