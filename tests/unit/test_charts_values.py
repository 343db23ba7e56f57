"""values.yaml is refused where helm would refuse the chart, and never costs more than it has bytes."""

from __future__ import annotations

import pytest

from pipeline_steps.charts import values
from pipeline_steps.toolbox.errors import ConfigurationError

BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{after}: &{after} [{','.join(['*' + before] * 9)}]\n"
    for before, after in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    "text",
    ["", "# a\n", "null\n", "~", "---\n", "a: 1\na: 2\n", "a: &x {b: 1}\nc: *x\nd: {<<: *x}\n", "a: 1\n---\nb: 2\n",
     "a: " + "[" * 900 + "]" * 900, "\ufeffa: 1\n", "a: !mine x\n", "a: &x 1\nb: [" + "*x," * 100 + "]\n"],
)  # fmt: skip
def test_values_that_helm_loads_are_accepted(text: str) -> None:
    values.check(text.encode(), "values.yaml")


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"- a\n", "values.yaml:1: the values are not a mapping of keys"),
        (b"a: 1\n---\ntext\n", "values.yaml:3: the values are not a mapping of keys"),
        (b"''\n", "the values are not a mapping of keys"),
        (b"a: [\n", "values.yaml:2: not YAML"), (b"\xff", "not UTF-8 text"),
        (b"a:\n\tb: 1\n", "values.yaml:2: not YAML"), (b"a: *b\n", "the alias *b has no anchor"),
        (b"a: &a [*a]\n", "the alias *a has no anchor"), (b"a: " + b"[" * 20_000, "nested deeper than 1000 levels"),
        (BOMB.encode(), "its aliases repeat too much"), ("a: b".encode("utf-16"), "not UTF-8"),
        (b"a: \x1b[31m", "not YAML"),
    ],
)  # fmt: skip
def test_values_that_helm_cannot_load_are_refused(data: bytes, says: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        values.check(data, "values.yaml")
    assert says in str(refused.value)
