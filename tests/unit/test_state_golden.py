"""State files of schema 1 load for ever: what was once written is read, and means the same. The
file never changes.
"""

import shutil
from pathlib import Path

from pipeline_steps.state import file
from pipeline_steps.state.state import State
from pipeline_steps.toolbox.files import sha256

GOLDEN = Path(__file__).parent / "golden/state-schema-1.jsonl"
#: step, result, and how its id begins.
RECORDS = [
    ("snapshot", "started", "60646e359c8e"),
    ("snapshot", "passed", "7fed9d066a80"),
    ("integration_test", "failed", "8fa754f94b25"),
    ("integration_test", "passed", "2c0d1474a0de"),
    ("integration_test", "infrastructure", "cefb8419c8a8"),
    ("approval", "refused", "eb31171ac635"),
    ("deploy", "interrupted", "e49f9e696374"),
    ("check", "passed", "ec0b453b00fb"),
    ("record", "passed", "9ecfda33a9f1"),
]


def test_every_record_of_schema_1_loads_with_its_id() -> None:
    found = [(record.step, record.result, record.id[7:19]) for record in file.load(GOLDEN)]

    assert found == RECORDS, (
        "the file was changed, or records are read otherwise than they were written"
    )


def test_what_stands_and_how_often_it_was_tried_is_what_it_was(tmp_path: Path) -> None:
    path = tmp_path / "state.jsonl"
    shutil.copy(GOLDEN, path)
    state = State(path)
    keys = {digit: f"sha256:{digit * 64}" for digit in "1234567"}
    verdicts = {
        digit: record.result if (record := state.verdict(key)) else None
        for digit, key in keys.items()
    }

    assert verdicts == {
        "1": "passed",
        "2": "passed",
        "3": None,
        "4": "refused",
        "5": None,
        "6": "passed",
        "7": "passed",
    }
    assert [state.resolve(key).attempts for key in keys.values()] == [1, 2, 1, 1, 1, 1, 1]


def test_adding_a_record_leaves_the_old_lines_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "state.jsonl"
    shutil.copy(GOLDEN, path)
    State(path).add(
        {"step": "check", "subject": "hello", "key": "k", "result": "passed", "started": "t"}
    )

    assert (
        path.read_bytes().startswith(GOLDEN.read_bytes())
        and len(State(path).records()) == len(RECORDS) + 1
    )
    assert (
        sha256(GOLDEN.read_bytes())
        == "sha256:2e1ab559ca3a99a4e5f3cc10cbf6588ecb0c11d866edf8890afd88ed6aa3cec4"
    )
