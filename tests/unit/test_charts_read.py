"""Chart.yaml is read as text, strictly, and what is refused is named with file and line."""

from __future__ import annotations

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from pipeline_steps.charts.read import Dependency, read_dependencies, read_metadata
from pipeline_steps.toolbox import yaml_reader
from pipeline_steps.toolbox.errors import ConfigurationError, EvidenceError

GOOD = b"""\
apiVersion: v2
name: hello
version: 1.2.3
appVersion: "1.10"
deprecated: false
dependencies:
  - {name: common, version: 2.x.x, repository: "file://../common"}
  - name: db
    version: ^1.0.0
    repository: oci://example.com/charts
    alias: store
    condition: store.enabled
"""


def test_metadata() -> None:
    read_names = read_metadata(GOOD, "hello/Chart.yaml")
    assert (read_names.name, read_names.version, read_names.app_version, read_names.type) == (
        "hello",
        "1.2.3",
        "1.10",
        "application",
    )
    assert read_names.dependencies == (
        Dependency(name="common", version="2.x.x", repository="file://../common"),
        Dependency(
            name="db",
            version="^1.0.0",
            repository="oci://example.com/charts",
            alias="store",
            condition="store.enabled",
        ),
    )
    assert read_names.dependencies[0].local
    assert read_names.dependencies[0].folder == "../common"
    assert read_names.fields["deprecated"] is False


START = b"apiVersion: v2\nname: a\n"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (START + b"version: 1.10\n", 'x:3: version: 1.10 is read as a float, helm wants text here (write version: "1.10")'),  # noqa: E501
        (START + b"version: 1.1.0\nappVersion: 2\n", 'x:4: appVersion: 2 is read as an int'),
        (b"apiVersion: v2\nname: no\nversion: 1.1.0\n", 'x:2: name: no is read as a bool'),
        (b"apiVersion: v2\nname: ../a\nversion: 1.0.0", "x:2: chart name '../a' is not allowed"),
        (b"apiVersion: v2\nname: A\nversion: 1.0.0", "chart name 'A' is not allowed"),
        (START + b"version: v1.0.0", "version 'v1.0.0' is not a SemVer 2 version"),
        (START + b"version: 01.2.3", "version '01.2.3' is not a SemVer 2 version"),
        (START + b'version: "1.0.0\\n"', "is not a SemVer 2 version"),
        (START + b'version: 1.0.0\ndescription: "\\e[31m"', "x:4: description contains control characters"),
        (b"name: a\nversion: 1.0.0", "apiVersion is missing (add apiVersion: to it)"),
        (b"apiVersion: v3\nname: a\nversion: 1.0.0", "apiVersion 'v3' is not v1 or v2"),
        (START + b"version: 1.0.0\ntype: app", "type 'app' is neither application nor library"),
        (START + b"version: 1.0.0\ndependencies: {}", "x:4: dependencies is not a list"),
        (START + b"version: 1.0.0\ndependencies:\n- b", "x:5: an entry of dependencies is not a mapping"),
        (START + b"version: 1.0.0\ndependencies: [{name: b, alias: 'x\ny'}]", "alias 'x y' is not allowed"),
        (START + b"version: 1.0.0\ndependencies: [{name: b},{name: b}]", "two dependencies are called 'b'"),
        (b"apiVersion: v2\nname: [a]\nversion: 1.0.0", "x:2: name is not a text"),
        (b"- a", "x: Chart.yaml is not a mapping of keys"),
    ],
)  # fmt: skip
def test_invalid_chart_yaml_is_refused_with_line(data: bytes, message: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        read_metadata(data, "x")
    assert message in str(raised.value)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"a: 1\nb: 2\na: 3\n", "x:3: the key 'a' occurs twice"),
        (b"a: &x 1\nb: *x\n", "x:2: the alias *x is not read here"),
        (b"[" * 10000, "x:1: nested deeper than 50 levels"),
        (b"a: " * 100, "x:1: not YAML: mapping values are not allowed"),
        (
            b"a: !!python/object:os.system x\n",
            "x:1: the tag tag:yaml.org,2002:python/object:os.system is not read",
        ),
        (b"a: !x 1\n", "x:1: the tag !x is not read"),
        (b"a: 1\n---\nb: 2\n", "a second YAML document"),
        (b"? {a: b}\n: c\n", "x:1: a key is not text"),
        ("a: ü".encode("utf-16"), "x: not UTF-8 text"),
        (b"a: \x1b[31m", "x: not YAML: "),
        (b"a:\n\t- b", "x:2: not YAML: found character that cannot start any token"),
        (b"a: " + b"x" * yaml_reader.LARGEST, "bytes of YAML, more than 5242880 are not read"),
    ],
)
def test_unsafe_yaml_documents_are_refused(data: bytes, message: str) -> None:
    with pytest.raises(EvidenceError) as raised:
        yaml_reader.parse(data, "x", error=EvidenceError)
    assert message in str(raised.value)


def test_scalars_keep_their_written_text() -> None:
    _, root = yaml_reader.parse(b"[1.10, no, 0o17, 1e3, 2026-01-31, ~, 'a', true, 1:30]", "x")
    assert yaml_reader.plain_value(root) == [
        "1.10",
        False,
        "0o17",
        "1e3",
        "2026-01-31",
        None,
        "a",
        True,
        "1:30",
    ]


def test_unquoted_numbers_are_accepted_unless_strict() -> None:
    data = b"apiVersion: v1\nname: a\nversion: 1.0.0\nappVersion: 1.10\n"
    assert read_metadata(data, "x", strict=False).app_version == "1.10"


def test_read_dependencies_of_a_lock() -> None:
    lock = b"dependencies:\n- name: db\n  repository: oci://example.com/c\n  version: 1.0.1\ndigest: sha256:0\n"
    read_names = read_dependencies(lock, "Chart.lock")
    assert read_names == (Dependency(name="db", version="1.0.1", repository="oci://example.com/c"),)


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ("keywords: a\n", "keywords is not a list"), ("sources: [[a]]\n", "an entry of sources is not a text"),
        ("maintainers: {name: a}\n", "maintainers is not a list"), ("maintainers: [a]\n", "is not a mapping"),
        ("maintainers: [{name: [a]}]\n", "name is not a text"), ("annotations: [a]\n", "is not a mapping of keys"),
        ("annotations: {a: [b]}\n", "an entry of annotations is not a text"), ("home: [a]\n", "home is not a text"),
        ("deprecated: maybe\n", "deprecated is neither true nor false"), ("kubeVersion: 1.20\n", "is read as a float"),
        ("dependencies: [{name: a, tags: b}]\n", "tags is not a list"),
        ("dependencies: [{name: a, import-values: b}]\n", "import-values is not a list"),
        ("dependencies: [{name: a, enabled: b}]\n", "enabled is neither true nor false"),
    ],
)  # fmt: skip
def test_shapes_that_helm_refuses(more: str, says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        read_metadata(f"apiVersion: v2\nname: a\nversion: 1.0.0\n{more}".encode(), "Chart.yaml")


def test_null_instead_of_a_list_is_empty() -> None:
    text = b"apiVersion: v2\nname: a\nversion: 1.0.0\nkeywords:\nmaintainers: ~\nannotations: null\ndependencies:\n"
    assert read_metadata(text, "Chart.yaml").fields.keys() == {"apiVersion", "name", "version"}


@given(
    st.text("0123456789abcdefoxtzETZ_.:+- ms/٣", max_size=12)
    | st.from_regex(r"[0-9]+[-:.eE+0-9_]*", fullmatch=True)
)
@example("1.2.3")
@example("2m")
@example("12e03")
@example("190:20:30.15")
@example("2001-12-14t21:59:43.10-05:00")
def test_meaning_is_the_same_with_and_without_shortcuts(plain: str) -> None:
    tag: str = yaml.SafeLoader("").resolve(yaml.ScalarNode, plain, (True, False))  # type: ignore[no-untyped-call]
    error_text = tag.removeprefix("tag:yaml.org,2002:")
    if error_text == "str":
        error_text = "bool" if plain in ("y", "Y", "n", "N") else "text"
        if plain.isascii() and yaml_reader._GO_NUMBER.fullmatch(plain):
            error_text = "float"
    assert yaml_reader.meaning(plain) == error_text


def test_texts_that_aliases_repeat_are_bounded() -> None:
    """What others wrote is read with aliases of texts, which a few lines could make without end."""
    long = "x" * 100_000
    for times, refused in ((2, False), (60, True)):
        text = f"apiVersion: v2\nname: web\nversion: 1.0.0\ndescription: &a {long}\nkeywords:\n"
        data = (text + "- *a\n" * times).encode()
        if refused:
            with pytest.raises(ConfigurationError, match="its aliases repeat too much"):
                read_metadata(data, "x", strict=False)
        else:
            assert read_metadata(data, "x", strict=False).fields["keywords"] == [long] * times
        with pytest.raises(ConfigurationError, match="the alias \\*a is not read here"):
            read_metadata(data, "x")
