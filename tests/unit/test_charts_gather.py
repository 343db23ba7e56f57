"""Which files make a package: the chart's folder, subcharts from the source instead of old copies,
nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from pipeline_steps.charts import archive, collect
from pipeline_steps.toolbox.errors import ConfigurationError
from tests.support.charts import files

COMMON = "dependencies:\n- {name: common, version: 0.1.0, repository: 'file://../common'}\n"


def gathered(
    contents: dict[str, bytes], kinds: dict[str, str] | None = None, folder: str = "hello"
) -> archive.Files:
    listing = {path: (kinds or {}).get(path, "file") for path in contents}

    def read(paths: Iterable[str]) -> dict[str, bytes]:
        return {path: contents[path] for path in paths}

    return collect.collect_files(folder, listing, read)


def below(folder: str, contents: dict[str, bytes]) -> dict[str, bytes]:
    return {f"{folder}/{path}": data for path, data in contents.items()}


def test_subcharts_come_from_the_source_and_old_copies_are_left_out() -> None:
    source = {
        **below("hello", files(more=COMMON)),
        **below("common", files("common", "0.1.0")),
        "hello/charts/common-0.0.9.tgz": b"old", "hello/charts/common/old.txt": b"old",
        "hello/charts/common-lib-1.0.0.tgz": b"another chart", "elsewhere/x": b"",
    }  # fmt: skip
    found = gathered(source, {"common/values.yaml": "executable"})
    assert found.keys() == {
        *files(), *(f"charts/common/{path}" for path in files()), "charts/common-lib-1.0.0.tgz",
    }  # fmt: skip
    assert found.executables == {"charts/common/values.yaml"}


def test_a_subchart_in_the_wrong_place_is_named() -> None:
    other = below("common", files("uncommon", "0.1.0"))
    with pytest.raises(
        ConfigurationError,
        match=r"hello/Chart\.yaml: the dependency common is in common, where the ",
    ):
        gathered({**below("hello", files(more=COMMON)), **other})


def test_a_chart_beside_pipeline_yaml() -> None:
    assert gathered(files(), folder="").keys() == files().keys()


@pytest.mark.parametrize(
    "target", ["../../etc/passwd", "/etc/passwd", "..", "templates", "loop", "nowhere"]
)
def test_links_inside_are_followed_and_others_refused(target: str) -> None:
    contents = {**below("hello", files()), "hello/loop": target.encode()}
    kinds = {"hello/loop": "link"}
    if target == "templates":
        assert gathered(contents, kinds)["loop/greeting.yaml"] == files()["templates/greeting.yaml"]
        return
    with pytest.raises(ConfigurationError, match=r"hello/loop: the symbolic link points"):
        gathered(contents, kinds)
    ignored = {**contents, "hello/.helmignore": b"loop\n"}
    assert "loop" not in gathered(ignored, kinds)


def test_a_pattern_that_takes_what_the_chart_needs_is_named(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It was called missing: "Chart.yaml is missing", "run helm dependency build"."""
    contents = {**below("hello", files()), "hello/.helmignore": b"# all of it\n*.yaml\n"}
    with pytest.raises(
        ConfigurationError,
        match=r"hello/\.helmignore:2: \*\.yaml: Chart\.yaml is left out of the package",
    ):
        gathered(contents)
    contents["hello/.helmignore"] = b"ci\n[a\\\n"
    with pytest.raises(ConfigurationError, match=r"helmignore:2: .* is not a pattern \(close"):
        gathered(contents)
    contents |= {"hello/.helmignore": b"*.tgz\n", "hello/charts/db-1.0.0.tgz": b"vendored"}
    assert "charts/db-1.0.0.tgz" not in gathered(contents)
    left_out = "hello/charts/db-1.0.0.tgz: left out of the package by hello/.helmignore:1: *.tgz"
    assert left_out in caplog.text
