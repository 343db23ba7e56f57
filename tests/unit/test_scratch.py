"""Scratch folders: what a killed process left goes, what another one uses stays, nobody else's is
touched.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline_steps.toolbox import files, scratch

USES = "import sys; from pipeline_steps.toolbox import scratch; it = scratch.Scratch('x'); print(it.path, flush=True)"


def test_a_killed_process_folder_goes_and_a_living_one_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    (tmp_path / "pipeline-steps-of-somebody").mkdir()
    with subprocess.Popen(
        [sys.executable, "-c", f"{USES}; sys.stdin.read()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as user:
        assert user.stdout is not None
        used = Path(user.stdout.readline().strip())
        (used / "work").write_text("half done")
        scratch.sweep()
        assert (used / "work").exists(), "the folder of a living process was removed"
        user.kill()
        user.wait()
    assert used.exists()
    scratch.sweep()

    assert [path.name for path in tmp_path.iterdir()] == ["pipeline-steps-of-somebody"]


def test_a_temporary_file_that_is_being_written_is_not_swept(tmp_path: Path) -> None:
    path, descriptor = files._open_temporary(tmp_path, 0o600)
    files.sweep_temporaries(tmp_path)
    assert path.exists()
    os.close(descriptor)
    files.sweep_temporaries(tmp_path)
    assert not path.exists()
