"""Chance in templates is told apart from what depends on the version, by rendering the tested chart
again.
"""

from __future__ import annotations

import itertools
import threading
from pathlib import Path

import pytest

from pipeline_steps.charts import random_values
from pipeline_steps.charts.compare import Comparison, compare_renderings, random_places
from pipeline_steps.clusters.helm import Helm
from tests.support.helms import chart_files, helm

SNAPSHOT, RELEASE = "0.1.0-0.4.t0123456789ab", "0.1.0"
REPLACED = ((SNAPSHOT, RELEASE), ("s.example.com/web:k-0123456789ab", "p.example.com/web:0.1.0"))
HEAD = "apiVersion: v1\nkind: Secret\nmetadata: {name: x}\nstringData:\n"


@pytest.fixture(scope="module", params=[3, 4])
def program(request: pytest.FixtureRequest) -> Helm:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PIPELINE_STEPS_HELM", str(helm(request.param)))
        return Helm.find()


def compared(program: Helm, folder: Path, template: str) -> Comparison:
    """The chart with this template, rendered as tested and as it would be released."""
    tested, released = folder / "tested", folder / "released"
    for chart, version, image in zip((tested, released), *REPLACED, strict=True):
        files = {**chart_files("web", version, image=image), "templates/x.yaml": template}
        for name, text in files.items():
            place = chart / name
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(text)
    return compare_renderings(
        lambda: program.template(tested), lambda: program.template(released), REPLACED
    )


@pytest.mark.parametrize(
    "line",
    [
        "a: {{ randAlphaNum 20 | quote }}",
        "a: {{ randAlphaNum 20 | b64enc }}",
        "a: {{ uuidv4 }}",
        "a: {{ randNumeric 6 }}",
        'a: {{ now | date "2006-01-02T15:04:05.000000000" | quote }}',
        'a: {{ (genCA "x" 1).Cert | quote }}',
        'a: {{ genPrivateKey "ecdsa" | b64enc }}',
        'a: {{ htpasswd "u" "p" | quote }}',
        "{{ randAlpha 8 | lower }}: 1",
        'a: "{{ .Values.image }}-{{ randAlphaNum 8 }}"',
        'a: "{{ .Values.image }}{{ randAlphaNum 8 }} {{ .Chart.Version }}"',
        'a: "{{ randAlphaNum 8 }}:{{ .Chart.Version }}:{{ randAlphaNum 8 }}"',
        "a: |\n    {{ .Chart.Version }}\n    password={{ randAlphaNum 8 }}\n    image={{ .Values.image }}",
    ],
)
def test_random_values_are_no_difference(program: Helm, tmp_path: Path, line: str) -> None:
    result = compared(program, tmp_path, f"{HEAD}  {line}\n")
    assert result.refused == ()
    assert "web/templates/deployment.yaml:12" in result.allowed  # the image


@pytest.mark.parametrize(
    "line",
    [
        'a: {{ randAlphaNum 8 }}\n  b: {{ contains "-0." .Chart.Version | quote }}',
        'a: "{{ randAlphaNum 8 }} {{ contains "-0." .Chart.Version }}"',
        'a: "{{ randAlphaNum 8 }} {{ contains "-0." .Chart.Version }} {{ randAlphaNum 8 }}"',
        'a: |\n    {{ randAlphaNum 8 }}\n    {{ if contains "-0." .Chart.Version }}debug{{ else }}fast{{ end }}',
    ],
)
def test_version_in_a_template_beside_random_values_is_a_difference(
    program: Helm, tmp_path: Path, line: str
) -> None:
    [difference] = compared(program, tmp_path, f"{HEAD}  {line}\n").refused
    assert not difference.is_random
    assert difference.place.startswith("web/templates/x.yaml:")


def test_randomly_missing_key_is_refused_as_random() -> None:
    tosses = itertools.cycle(["# Source: w/t.yaml\na: 1\nb: 2\n", "# Source: w/t.yaml\na: 1\n"])
    result = compare_renderings(lambda: next(tosses), lambda: next(tosses), REPLACED)
    assert [each.place for each in result.refused] == [
        "w/t.yaml:1 (what it renders depends on chance in more than values)"
    ]


def test_running_clock_counts_as_random() -> None:
    times = iter(["11:03:58", "11:03:59", "11:04:00", "11:04:01"])

    def render() -> str:
        return f"# Source: w/t.yaml\na: at {next(times)} o'clock\n"

    assert compare_renderings(render, render, REPLACED).refused == ()


def test_a_derived_chart_that_saw_an_earlier_time_is_rendered_once_more() -> None:
    times = iter(["11:03:58", "11:03:59"])
    line = "# Source: w/t.yaml\na: at {} o'clock\n".format

    def derived() -> str:
        return line(next(times))

    assert compare_renderings(lambda: line("11:03:59"), derived, REPLACED).refused == ()


def test_a_derived_chart_that_saw_the_second_before_is_rendered_again_beside_fractions() -> None:
    fractions = itertools.count(1)
    seconds = itertools.chain([15], itertools.repeat(16))

    def render(second: int) -> str:
        return f"# Source: w/t.yaml\na: at 11:03:{second}.{next(fractions):09}\n"

    result = compare_renderings(lambda: render(16), lambda: render(next(seconds)), REPLACED)
    assert result.refused == ()


def test_tested_and_derived_chart_are_rendered_at_the_same_time() -> None:
    both = threading.Barrier(2, timeout=5)

    def render() -> str:
        both.wait()
        return "# Source: w/t.yaml\na: 1\n"

    assert compare_renderings(render, render, REPLACED).refused == ()


def test_places_of_chance_are_named() -> None:
    first = "# Source: w/a.yaml\na: x\n---\n# Source: w/b.yaml\na: 1\nb: q7\n"
    assert random_places(first, first.replace("q7", "z8")) == ("w/b.yaml:2",)
    assert random_places(first, first) == ()


def test_replaced_values_beside_random_words_are_no_difference() -> None:
    texts = ["web:k-0123abXy", "web:k-0123abQr"]
    assert random_values.common_parts(texts, ["k-0123ab"]) == ["web:k-0123ab", ""]
    assert random_values.mask_random(["a\nb x1\nc", "a\nb y2 z\nc"]) == "a\nb <chance>\nc"
