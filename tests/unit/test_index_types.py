"""What helm refuses of an index is found by patterns without parsing it: they may miss nothing that a
parser finds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline_steps.repositories import index_types
from pipeline_steps.toolbox import yaml_reader
from pipeline_steps.toolbox.errors import EvidenceError

VALUES = """1 1.2 1.2.3 1.2..3 1. .5 -1 +1.5 -x 12.x.x 1e3 0x1f 0o7 0b1 1_0 1:30 2026-01-31 true True
truex no yes-or-no OFF y n N ~ null text '1.2' "no" -text .text""".split()
LINES = st.builds(
    "{}:{}{}{}".format,
    st.sampled_from(["appVersion", "version", "description", "icon", "home", "condition"]),
    st.sampled_from([" ", "   "]),
    st.sampled_from(VALUES),
    st.sampled_from(["", " ", " # 1.2.3", " # no"]),
)
ENTRIES = st.lists(st.lists(LINES, min_size=1, max_size=4), min_size=1, max_size=3)


@given(ENTRIES)
def test_patterns_find_every_number_and_truth_value_that_a_parser_finds(
    entries: list[list[str]],
) -> None:
    texts = ["".join(unique_keys(lines)) for lines in entries]
    data = "apiVersion: v1\nentries:\n  web:\n" + "".join(texts)
    parsed = [yaml_reader.parse(text.encode(), "")[1] for text in texts]
    items = [node.items[0] for node in parsed if isinstance(node, yaml_reader.Sequence)]
    assert is_refused(data.encode()) == any(map(index_types.rejection, items))


def unique_keys(lines: list[str]) -> list[str]:
    """The lines of an entry, the last of each key."""
    kept = {line.partition(":")[0]: line for line in lines}
    return [f"  {' ' if number else '-'} {line}\n" for number, line in enumerate(kept.values())]


@pytest.mark.parametrize("before", ["", "\ufeff", "apiVersion: v1\n"])
def test_a_key_that_helm_does_not_know_is_refused_on_the_first_line_and_later(before: str) -> None:
    data = f"{before}other: 1\nentries: {{}}\n".encode()
    line = before.count("\n") + 1
    assert index_types.top_rejection(data) == (line, "it does not know other")


def is_refused(data: bytes) -> bool:
    try:
        index_types.refuse_rejected(data, "index.yaml")
    except EvidenceError as error:
        return "helm refuses this whole index" in error.what
    return False
