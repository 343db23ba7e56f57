"""Edits in place: only the wanted value changes, everything else stays byte for byte, undo gives
the original.
"""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from pipeline_steps.charts import edit
from pipeline_steps.charts.edit import Change
from pipeline_steps.toolbox import yaml_reader
from pipeline_steps.toolbox.errors import ConfigurationError, EvidenceError

VALUES = b"""\
# how it runs
image:
  repository: example.com/hello   # without tag
  tag: '1.0'
  digest:
  pull: "Always"
sidecars:
  - {name: a, image: "x:1", tag: 1.10, note: [1, 2]}
  - name: b
    image: y
annotations:
  example.com/a.b: old
block: |
  one

folded: >-
  two
  lines
last: end"""


def values(data: bytes) -> Any:
    return yaml.safe_load(data)


@pytest.mark.parametrize(
    ("key", "value", "old", "new"),
    [
        (
            "image.repository",
            "r.example.com:5000/hello",
            "example.com/hello",
            "r.example.com:5000/hello",
        ),
        ("image.tag", "it's", "'1.0'", "'it''s'"),
        ("image.digest", "sha256:ab", "", " sha256:ab"),
        ("image.pull", 'a "b"\n', '"Always"', '"a \\"b\\"\\n"'),
        ("sidecars[0].image", "x:2", '"x:1"', '"x:2"'),
        ("sidecars.0.tag", "1.20", "1.10", '"1.20"'),
        ("sidecars[0].name", "a:b", "a", '"a:b"'),
        ("sidecars[0].note[1]", "no", "2", '"no"'),
        (r"annotations.example\.com/a\.b", "", "old", '""'),
        ("block", "two\n", "|\n  one", "|\n  two"),
        ("folded", "x", ">-\n  two\n  lines", ">-\n  x"),
        ("last", "0o17", "end", '"0o17"'),
    ],
)
def test_only_the_scalar_is_replaced(key: str, value: str, old: str, new: str) -> None:
    files, changes = edit.apply({"values.yaml": VALUES}, {"values.yaml": {key: value}})
    assert changes == (Change("values.yaml", key, old, new),)
    for start in range(len(VALUES)):
        if VALUES[start : start + len(old)] == old.encode() and files["values.yaml"] == (
            VALUES[:start] + new.encode() + VALUES[start + len(old) :]
        ):
            break
    else:
        pytest.fail("more than the scalar changed")
    node = dict(edit.scalars(yaml_reader.parse(files["values.yaml"], "")[1]))[edit_key(key)]
    assert node.meaning == "text"
    assert node.value == value
    assert edit.undo(files, changes) == {"values.yaml": VALUES}


def edit_key(key: str) -> str:
    return key.replace("sidecars.0.", "sidecars[0].")


def test_equal_value_is_no_change_and_number_becomes_text() -> None:
    files, changes = edit.apply({"v": b"a: x\nb: 1.10\n"}, {"v": {"a": "x", "b": "1.10"}})
    assert files["v"] == b'a: x\nb: "1.10"\n'
    assert [change.key for change in changes] == ["b"]


@pytest.mark.parametrize(
    "data", [b"\xef\xbb\xbfa:\r\n  b: 1 # c\r\n  d: x\r\n", "ü: ☃\na:\n  b: 𝕏\n  d: é".encode()]
)
def test_byte_order_mark_line_ends_and_other_alphabets_survive(data: bytes) -> None:
    files, changes = edit.apply({"v": data}, {"v": {"a.b": "new", "a.d": "ß"}})
    assert values(files["v"])["a"] == {"b": "new", "d": "ß"}
    assert edit.undo(files, changes)["v"] == data
    assert files["v"].count(b"\r\n") == data.count(b"\r\n")
    assert files["v"].startswith(b"\xef\xbb\xbf") == data.startswith(b"\xef\xbb\xbf")


@pytest.mark.parametrize(
    ("data", "key", "message"),
    [
        (b"image:\n  tga: x\n", "image.tag", "yaml:2: the key to set, image.tag, does not exist (there is image.tga)"),
        (b"a: {b: x}\n", "a", "values.yaml:1: a is not one value but several (name a key below it)"),
        (b"a: &t x\nb: *t\n", "a", "values.yaml:2: a has the anchor &t, setting it would change other keys too"),
        (b"a: &m {t: x}\nb: *m\n", "b.t", "values.yaml:2: b.t is reached through the alias *m"),
        (b"a: &m {t: x}\nb: *m\n", "a.t", "values.yaml:2: a.t has the anchor &m"),
        (b"a: &m {t: x}\nb:\n  <<: *m\n", "b.t", "it may come in by <<"),
        (b"a: !!int 3\n", "a", "a has the tag tag:yaml.org,2002:int (remove the tag)"),
        (b"a: {b}\n", "a.b", 'a.b has no value (write a.b: "")'),
        (b"", "a", "the file has no values"),
    ],
)  # fmt: skip
def test_keys_that_cannot_be_set_are_refused(data: bytes, key: str, message: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        edit.apply({"values.yaml": data}, {"values.yaml": {key: "new"}})
    assert message in str(raised.value)


def test_a_missing_file_and_a_value_set_twice_are_refused() -> None:
    with pytest.raises(
        ConfigurationError,
        match=r"hello/values\.yaml: the file whose values are to be set is missing",
    ):
        edit.apply({}, {"values.yaml": {"a": "b"}}, where="hello")
    with pytest.raises(ConfigurationError, match="two of the keys to set lead to the same value"):
        edit.apply({"v": b"a: [x]"}, {"v": {"a[0]": "b", "a.0": "c"}})


def test_an_alias_as_the_value_is_replaced_for_this_key_alone() -> None:
    files, changes = edit.apply({"v": b"a: &t x\nb: *t\nc: *t\n"}, {"v": {"b": "z"}})
    assert files["v"] == b"a: &t x\nb: z\nc: *t\n"
    assert edit.undo(files, changes)["v"] == b"a: &t x\nb: *t\nc: *t\n"


def test_undo_refuses_what_the_change_did_not_write() -> None:
    change = Change("v", "a", "x", "y")
    with pytest.raises(EvidenceError, match="v:1: a is z, the change wrote y"):
        edit.undo({"v": b"a: z\n"}, [change])
    with pytest.raises(EvidenceError, match="does not exist"):
        edit.undo({"v": b"b: z\n"}, [change])
    with pytest.raises(EvidenceError, match="v: a changed file is missing"):
        edit.undo({}, [change])


def test_changes_of_one_key_one_after_the_other_are_undone_in_reverse() -> None:
    first, one = edit.apply({"v": b"a: x\nb: 1\n"}, {"v": {"a": "why", "b": "2"}})
    second, two = edit.apply(first, {"v": {"a": "longer"}})
    assert edit.undo(second, (*one, *two)) == {"v": b"a: x\nb: 1\n"}


def test_no_break_space_belongs_to_the_value() -> None:
    original = "a: |-\n  \xa0\nb: 1\n".encode()
    files, changes = edit.apply({"v": original}, {"v": {"a": ""}})
    assert files["v"] == b'a: ""\nb: 1\n'
    assert edit.undo(files, changes) == {"v": original}


@pytest.mark.parametrize("line_end", ["\n", "\x85", "\u2028", "\u2029"])
def test_the_line_end_behind_a_block_scalar_stays(line_end: str) -> None:
    original = f"a:\n- |2+\n{line_end}...\n".encode()
    files, changes = edit.apply({"v": original}, {"v": {"a[0]": ""}})
    assert files["v"] == f'a:\n- ""\n{line_end}...\n'.encode()
    assert edit.undo(files, changes) == {"v": original}


text = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\x00\ufeff"), max_size=12
)
words = st.text("abc.-_/é[]", min_size=1, max_size=4).filter(
    lambda word: yaml_reader.meaning(word) == "text"
)
leaf = st.one_of(
    text,
    st.sampled_from(["1.10", "no", "x:1", "a#b", "- x", "{", "'", '"', "0o17", "1:30", "~", ""]),
)
tree = st.dictionaries(words, st.recursive(leaf, lambda inner: st.one_of(
    st.lists(inner, min_size=1, max_size=3), st.dictionaries(words, inner, min_size=1, max_size=3)), max_leaves=8,
), min_size=1, max_size=4)  # fmt: skip


@given(
    tree,
    st.data(),
    st.booleans(),
    st.sampled_from([None, "'", '"', "|", ">"]),
    st.sampled_from(["\n", "\r\n"]),
)
def test_only_the_key_differs_and_undo_is_the_inverse(
    content: dict[str, Any], data: st.DataObject, flow: bool, style: str | None, line_end: str
) -> None:
    written = yaml.safe_dump(
        content, default_flow_style=flow, default_style=style, allow_unicode=True, width=40
    )
    original = ("# first\n" + written + "# last\n").replace("\n", line_end).encode()
    _, root = yaml_reader.parse(original, "values.yaml")
    known = dict(edit.scalars(root))
    key = data.draw(st.sampled_from(sorted(known)))
    value = data.draw(leaf)
    files, changes = edit.apply({"values.yaml": original}, {"values.yaml": {key: value}})
    after = dict(edit.scalars(yaml_reader.parse(files["values.yaml"], "values.yaml")[1]))
    kept_line_ends = known[key].style in ("|", ">")
    assert after[key].meaning == "text"
    assert after[key].value == value or (
        kept_line_ends and after[key].value.rstrip() == value.rstrip()
    )
    assert {k: v.value for k, v in after.items() if k != key} == {
        k: v.value for k, v in known.items() if k != key
    }
    assert edit.undo(files, changes)["values.yaml"] == original
