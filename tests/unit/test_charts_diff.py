"""The diff of two renderings: what changed for a reason is shown, what changes in every build is
not.
"""

from __future__ import annotations

import pytest

from pipeline_steps.charts import diff
from pipeline_steps.charts.diff import Difference, Side

DIGEST = "sha256:" + "a" * 64
MAP = """\
---
# Source: hello/templates/map.yaml
apiVersion: v1
kind: ConfigMap
metadata:
  name: hello
  labels: {{helm.sh/chart: hello-{version}, app.kubernetes.io/version: "{version}", team: a}}
data:
  greeting: {greeting}
"""
POD = """\
---
# Source: hello/templates/pod.yaml
kind: Pod
apiVersion: v1
metadata: {{name: hello, namespace: x, annotations: {{checksum/config: {checksum}}}}}
spec:
  containers:
    - image: {image}
      ports: [{{containerPort: {port}}}]
"""


def differences(
    before: str, after: str, same: tuple[dict[str, str], dict[str, str]] = ({}, {})
) -> list[Difference]:
    return diff.differences(Side(before, before, same[0]), Side(after, after, same[1]))


def pod(
    image: str = f"a.example.com/snap/web:k-1@{DIGEST}", checksum: str = "0" * 64, port: str = "80"
) -> str:
    return POD.format(image=image, checksum=checksum, port=port)


def test_labels_checksums_order_and_comments_are_no_difference() -> None:
    before = MAP.format(version="1.0.0", greeting="hi") + pod()
    after = pod(f"b.example.com/web:1.0.0@{DIGEST}", "1" * 64) + MAP.format(
        version="1.0.1-0.3.tab", greeting="hi"
    )
    assert differences(before, after) == []


def test_a_change_is_shown_by_resource() -> None:
    shown = differences(
        MAP.format(version="1", greeting="hi") + pod(),
        MAP.format(version="1", greeting="bye") + pod(),
    )
    [difference] = shown
    assert (difference.name, difference.word) == ("ConfigMap hello", "changed")
    assert "-  greeting: hi\n+  greeting: bye" in difference.text


def test_added_and_removed_resources_are_shown_completely() -> None:
    [gone, new] = differences(pod(), MAP.format(version="1", greeting="hi"))
    assert (new.name, new.word, gone.name, gone.word) == (
        "Pod x/hello",
        "removed",
        "ConfigMap hello",
        "added",
    )
    assert "-  - image: web@sha256:" in new.text and "+  greeting: hi" in gone.text


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (pod(), pod(f"a.example.com/snap/web:k-1@sha256:{'b' * 64}")),
        (pod(), pod(checksum="none")),
        (pod(), pod(port='"80"')),
        (pod(), pod("a.example.com/snap/web:k-1")),
    ],
    ids=["image", "annotation", "type", "unpinned"],
)
def test_changed_values_are_a_difference(before: str, after: str) -> None:
    assert [difference.word for difference in differences(before, after)] == ["changed"]


def test_equivalent_image_references_are_no_difference() -> None:
    aliases = ({"a.example.com/snap/web:k-1": "web"}, {"b.example.com/web:1.0.0": "web"})
    assert (
        differences(pod("a.example.com/snap/web:k-1"), pod("b.example.com/web:1.0.0"), aliases)
        == []
    )


def test_resources_with_equal_names_and_invalid_yaml_are_compared() -> None:
    two = MAP.format(version="1", greeting="hi") * 2
    assert [difference.name for difference in differences(two, two.replace("hi", "bye", 1))] == [
        "ConfigMap hello"
    ]
    assert [
        difference.word for difference in differences("# Source: x\na: [", "# Source: x\na: {")
    ] == ["changed"]


def test_random_values_are_masked_in_the_diff() -> None:
    first, again, other, more = (
        MAP.format(version="1", greeting=f"hi-{word}") for word in ("a7", "b8", "c9", "d0")
    )
    before = Side(first, again)
    assert diff.differences(before, Side(other, more)) == []
    [difference] = diff.differences(
        before, Side(other.replace("hi-", "bye-"), more.replace("hi-", "bye-"))
    )
    assert "-  greeting: hi-<chance>\n+  greeting: bye-<chance>" in difference.text
