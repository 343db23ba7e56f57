"""`init` writes a pipeline.yaml that our own loader takes, and never over another one."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline_steps.commands import init
from pipeline_steps.config.config_file import load

VALUES = 'image: {repository: registry.example.com/x, tag: "1", pullPolicy: Always}\n'


def chart(root: Path, path: str, values: str = "") -> None:
    (root / path).mkdir(parents=True)
    (root / path / "Chart.yaml").write_text(
        f"apiVersion: v2\nname: {Path(path).name}\nversion: 0.1.0\n"
    )
    (root / path / "values.yaml").write_text(values)


def test_charts_side_by_side_become_a_glob_and_the_only_image_is_mapped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chart(tmp_path, "deploy/charts/api", VALUES)
    chart(tmp_path, "deploy/charts/web")
    chart(tmp_path, "deploy/charts/web/charts/inner")
    chart(tmp_path, "tools/on")
    (tmp_path / "backend").mkdir()
    (tmp_path / "backend/Dockerfile").write_text("FROM scratch\n")
    monkeypatch.chdir(tmp_path)
    assert init.main([]) == 0
    config = load((), environ={}, start=tmp_path)
    assert [entry.path for entry in config.charts] == ["deploy/charts/*", "tools/on"]
    assert config.charts[0].images == {
        "backend": {"image.repository": "{repository}", "image.tag": "{tag}"}
    }
    assert config.images["backend"].context == "backend"
    assert config.channels.production.charts == ("oci://registry.example.com/production/charts",)


def test_several_images_are_left_to_the_reader(tmp_path: Path) -> None:
    chart(tmp_path, "charts/api", VALUES)
    for name in ("one/app", "two/app"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "Dockerfile").write_text("FROM scratch\n")
    text = init.first_configuration(tmp_path)
    assert '    # images: {NAME: {image.repository: "{repository}", image.tag: "{tag}"}}' in text
    assert "  one: {context: one/app}" in text


def test_nothing_is_overwritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    chart(tmp_path, "charts/api")
    (tmp_path / "pipeline.yaml").write_text("mine\n")
    monkeypatch.chdir(tmp_path)
    assert init.main([]) == 5
    assert (tmp_path / "pipeline.yaml").read_text() == "mine\n"
    assert init.main(["--plan"]) == 0
    assert "- path: charts/*" in capsys.readouterr().out.replace('"', "")


def test_without_charts_it_says_where_it_looked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert init.main([]) == 2
    assert f"no Chart.yaml in {tmp_path} or below" in capsys.readouterr().err
