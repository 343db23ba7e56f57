"""The production chart: only recorded values differ, undoing gives the tested tar, renderings
differ for reasons.
"""

from __future__ import annotations

import pytest

from pipeline_steps.auth.reference import Reference
from pipeline_steps.charts import archive, compare, image_references, rewrite
from pipeline_steps.charts.archive import Files
from pipeline_steps.charts.edit import Change
from pipeline_steps.images.value_templates import image_parts
from pipeline_steps.toolbox.errors import ConfigurationError, EvidenceError
from tests.support.charts import files

SNAPSHOT = "1.0.0-0.3.t0123456789ab"


def naming(reference: str) -> image_references.Fill:
    """What fills templates with the parts of one image."""
    image = image_parts(Reference.parse(reference), {})
    return lambda _name, template, where: image.fill(template, where=where)


OLD = naming("s.example.com/snap/hello:k-0123456789ab@sha256:" + "a" * 64)
NEW = naming("p.example.com/prod/hello:1.0.0@sha256:" + "a" * 64)
TEMPLATES = {"hello": {"web": {"image.repository": "{repository}", "image.tag": "{tag}@{digest}"}}}


def nested() -> Files:
    inner = files("common", "0.3.0", more="appVersion: '0'\n")
    dependency = "dependencies:\n- {name: common, version: 0.3.0, repository: 'file://../common'}\n"
    outer = files(version=SNAPSHOT, more=dependency)
    return Files(
        {**outer, **{f"charts/common/{path}": data for path, data in inner.items()}},
        {"templates/greeting.yaml"},
    )


def test_rewritten_chart_is_verified() -> None:
    templates = {
        **TEMPLATES,
        "common": {"web": {"image.tag": "{digest}", "Chart.appVersion": "{tag}"}},
    }
    snapshot = nested()
    tested = rewrite.rewrite(
        snapshot, SNAPSHOT, image_references.edits(snapshot, "hello", templates, OLD)
    ).archive
    unpacked = archive.unpack(tested.tgz)
    wanted = image_references.edits(unpacked, "hello", templates, NEW)
    assert wanted == {
        "values.yaml": {
            "image.repository": "p.example.com/prod/hello",
            "image.tag": "1.0.0@sha256:" + "a" * 64,
        },
        "charts/common/values.yaml": {"image.tag": "sha256:" + "a" * 64},
        "charts/common/Chart.yaml": {"appVersion": "1.0.0"},
    }
    made = rewrite.rewrite(unpacked, "1.0.0", wanted)
    assert (made.archive.name, made.archive.version) == ("hello", "1.0.0")
    assert [(change.file, change.key) for change in made.changes] == [
        ("Chart.yaml", "version"),
        ("values.yaml", "image.repository"),
        ("values.yaml", "image.tag"),
        ("charts/common/Chart.yaml", "appVersion"),
    ]
    assert made.changes[3] == Change(
        "charts/common/Chart.yaml", "appVersion", "'k-0123456789ab'", "'1.0.0'"
    )
    production = archive.unpack(made.archive.tgz)
    assert b"greeting: hello  # said to everybody\n" in production["values.yaml"]
    assert production.executables == {"templates/greeting.yaml"}
    rewrite.verify_rewrite(made.archive.tgz, made.changes, tested.tar_digest)
    with pytest.raises(EvidenceError, match="tested was sha256:"):
        rewrite.verify_rewrite(made.archive.tgz, made.changes[1:], tested.tar_digest)


def test_unknown_template_fields_and_keys_are_refused() -> None:
    with pytest.raises(
        ConfigurationError, match=r"hello: images\.web\.image\.tag: unknown field {tga}"
    ):
        image_references.edits(files(), "hello", {"hello": {"web": {"image.tag": "{tga}"}}}, OLD)
    untagged = naming("h.example.com/p@sha256:" + "a" * 64)
    with pytest.raises(ConfigurationError, match=r"the image .* has no tag"):
        image_references.edits(
            files(), "hello", {"hello": {"web": {"image.tag": "{tag}"}}}, untagged
        )
    with pytest.raises(
        ConfigurationError, match=r"values\.yaml:3: the key to set, image\.tga, does not exist"
    ):
        rewrite.rewrite(Files(files()), "1.0.0", {"values.yaml": {"image.tga": "x"}})


CHANGES = (
    Change("Chart.yaml", "version", SNAPSHOT, "1.0.0"),
    Change(
        "values.yaml", "image.repository", "s.example.com/snap/hello", "p.example.com/prod/hello"
    ),
    Change("values.yaml", "image.tag", '"k-0123456789ab"', "'1.0.0'"),
    Change("values.yaml", "image.digest", "", " sha256:a"),
)
RENDERED = """---
# Source: hello/templates/a.yaml
kind: Deployment
metadata:
  labels:
    chart: hello-{version}
    long: {long}
    fixed: 1.0.0
  annotations: {{checksum/config: {checksum}, note: {note}}}
spec: {{image: "{repository}:{tag}", args: {args}}}
---
# Source: hello/templates/b.yaml
kind: ConfigMap
data:
  text: |
    image={repository} version={version} {text}
"""
TESTED = {
    "version": SNAPSHOT, "long": ("a" * 48 + SNAPSHOT)[:63], "checksum": "1" * 64, "note": "x",
    "repository": "s.example.com/snap/hello", "tag": "k-0123456789ab", "args": "[a]", "text": "1.0.0",
}  # fmt: skip
DERIVED = {
    **TESTED, "version": "1.0.0", "long": "a" * 48 + "1.0.0", "checksum": "2" * 64,
    "repository": "p.example.com/prod/hello", "tag": "1.0.0",
}  # fmt: skip


def differences(**other: str) -> list[str]:
    tested, derived = RENDERED.format(**TESTED), RENDERED.format(**{**DERIVED, **other})
    replaced = rewrite.replaced_values(CHANGES)
    return [str(each) for each in compare.compare([tested], derived, replaced).refused]


def test_only_replaced_values_differ() -> None:
    assert differences() == []


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"note": "y"}, "hello/templates/a.yaml:7: 'x' became 'y'"),
        ({"note": "3" * 64}, f"hello/templates/a.yaml:7: 'x' became '{'3' * 64}'"),
        ({"args": "[a, b]"}, "hello/templates/a.yaml:8: a list became a list"),
        ({"args": "{a: b}"}, "hello/templates/a.yaml:8: a list became a mapping"),
        (
            {"tag": "1.0.1"},
            "hello/templates/a.yaml:8: 's.example.com/snap/hello:k-0123456789ab' became",
        ),
        ({"repository": "1.0.0"}, "hello/templates/a.yaml:8: "),
        ({"text": "1.0.1"}, "hello/templates/b.yaml:3: "),
        ({"long": "a" * 47 + "1.0.0"}, "hello/templates/a.yaml:5: "),
        ({"long": "a" * 48 + "2"}, "hello/templates/a.yaml:5: "),
        (
            {"text": "\n---\n# Source: hello/templates/c.yaml\nx: y"},
            "hello/templates/c.yaml:1: 2 documents became 3",
        ),
    ],
)
def test_other_changes_are_differences_with_template_and_line(
    other: dict[str, str], said: str
) -> None:
    assert any(line.startswith(said) for line in differences(**other)), differences(**other)


def test_text_that_becomes_a_number_is_a_difference() -> None:
    compared = compare.compare(["# Source: t\na: 1.x\n"], "# Source: t\na: 1.2\n", [("1.x", "1.2")])
    assert [str(each) for each in compared.refused] == ["t:1: '1.x' became '1.2'"]
