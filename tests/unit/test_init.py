"""`init` writes a pipeline.yaml that our own loader takes, and never over another one."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline_steps.commands import init
from pipeline_steps.config.config_file import load
from pipeline_steps.config.entries import match_chart_folders
from pipeline_steps.config.language import Config

VALUES = 'image: {repository: registry.example.com/backend, tag: "1", pullPolicy: Always}\n'


def chart(root: Path, path: str, values: str = "") -> None:
    (root / path).mkdir(parents=True, exist_ok=True)
    (root / path / "Chart.yaml").write_text(
        f"apiVersion: v2\nname: {Path(path).name}\nversion: 0.1.0\n"
    )
    (root / path / "values.yaml").write_text(values)


def dockerfile(root: Path, path: str) -> None:
    (root / path).mkdir(parents=True, exist_ok=True)
    (root / path / "Dockerfile").write_text("FROM scratch\n")


def written(root: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    """What our own loader reads from the file that `init` writes in `root`."""
    monkeypatch.chdir(root)
    assert init.main([]) == 0
    return load((), environ={}, start=root)


def test_charts_side_by_side_become_a_glob_and_the_image_that_values_name_is_mapped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chart(tmp_path, "deploy/charts/api", VALUES)
    chart(tmp_path, "deploy/charts/web")
    chart(tmp_path, "deploy/charts/web/charts/inner")
    chart(tmp_path, "tools/on")
    dockerfile(tmp_path, "backend")
    config = written(tmp_path, monkeypatch)
    paths = [entry.path for entry in config.charts]
    assert paths == ["deploy/charts/*", "tools/on", "deploy/charts/api"]
    assert config.charts[0].images is None and config.charts[1].images is None
    assert config.charts[2].images == {
        "backend": {"image.repository": "{repository}", "image.tag": "{tag}"}
    }
    assert config.images["backend"].context == "backend"
    assert config.channels.production.charts == ("oci://registry.example.com/production/charts",)


def test_an_image_that_no_values_name_is_shown_and_not_declared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A vendor's image in values and a Dockerfile for scripts: the one is not the other."""
    chart(tmp_path, "charts/proxy", "image: {repository: quay.example.com/vendor/app, tag: v1}\n")
    dockerfile(tmp_path, "scripts")
    config = written(tmp_path, monkeypatch)
    text = (tmp_path / "pipeline.yaml").read_text()
    assert config.images == {} and [entry.images for entry in config.charts] == [None]
    keys = '{NAME: {image.repository: "{repository}", image.tag: "{tag}"}}'
    assert f"- {{path: charts/proxy, images: {keys}}}  # quay.example.com/vendor/app" in text
    assert "#   scripts: {context: scripts}" in text


def test_each_chart_gets_the_image_of_its_own_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("backend", "frontend"):
        chart(tmp_path, f"charts/{name}", f"image: {{repository: example.com/{name}, tag: a}}\n")
        dockerfile(tmp_path, f"apps/{name}")
    config = written(tmp_path, monkeypatch)
    assert {entry.path: list(entry.images or ()) for entry in config.charts} == {
        "charts/*": [],
        "charts/backend": ["backend"],
        "charts/frontend": ["frontend"],
    }
    assert {name: entry.context for name, entry in config.images.items()} == {
        "backend": "apps/backend",
        "frontend": "apps/frontend",
    }


@pytest.mark.parametrize(
    ("values", "keys"),
    [
        ("image: registry.example.com/backend:1.0\n", {"image": "{reference}"}),
        (
            "server: {image: {registry: example.com, repository: shop/backend, tag: a}}\n",
            {
                "server.image.registry": "{registry}",
                "server.image.repository": "{path}",
                "server.image.tag": "{tag}",
            },
        ),
        (
            "image: {repository: backend, tag: '', digest: ''}\n",
            {
                "image.repository": "{repository}",
                "image.tag": "{tag}",
                "image.digest": "{digest}",
            },
        ),
    ],
    ids=["one text", "registry apart, below a key", "with digest"],
)
def test_values_keys_of_an_image_are_found_as_charts_write_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, values: str, keys: dict[str, str]
) -> None:
    chart(tmp_path, "web", values)
    dockerfile(tmp_path, "backend")
    config = written(tmp_path, monkeypatch)
    assert [(entry.path, entry.images) for entry in config.charts] == [("web", {"backend": keys})]


def test_a_chart_at_the_top_of_the_repository(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chart(tmp_path / "vault", ".", "image: {repository: hashicorp/vault, tag: a}\n")
    chart(tmp_path / "vault", "charts/inner")
    dockerfile(tmp_path / "vault", "test/docker")
    config = written(tmp_path / "vault", monkeypatch)
    assert [entry.path for entry in config.charts] == ["."]
    chart(tmp_path / "vault", "other/api")
    assert [path.name for path in init.find_files(tmp_path / "vault", "Chart.yaml", 0)][1:] == [
        "api"
    ]
    assert match_chart_folders(".", [""], "pipeline.yaml") == [""]


def test_many_charts_at_the_top_are_one_entry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(80):
        chart(tmp_path, f"chart-{number}")
    assert [entry.path for entry in written(tmp_path, monkeypatch).charts] == ["*"]


def test_images_in_folders_of_one_name_are_told_apart(tmp_path: Path) -> None:
    for name in ("images/a/rootfs", "images/b/rootfs", "one/web", "two/web", "app"):
        dockerfile(tmp_path, name)
    contexts = sorted(init.find_files(tmp_path, "Dockerfile", 0))
    assert init.image_names(tmp_path, contexts) == {
        tmp_path.name.lower(): "app",
        "a": "images/a/rootfs",
        "b": "images/b/rootfs",
        "web": "one/web",
        "two-web": "two/web",
    }


def test_a_dockerfile_with_the_name_of_an_image_is_mapped_where_its_context_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ("web", "api", "tool", "all", "twice", "plain")
    chart(
        tmp_path,
        "charts/shop",
        "".join(
            f"{name}: {{image: {{repository: example.com/{name}, tag: a}}}}\n" for name in names
        ),
    )
    for path, text in {
        "build/Dockerfile.web": "FROM scratch\nCOPY --chown=1 \\\n  src/web /\nCOPY --from=a b c\n",
        "docker/api.Dockerfile": "FROM scratch\nADD run.sh https://x/y /\n",
        "docker/run.sh": "",
        "src/web/a": "",
        "build/Dockerfile.tool": "FROM scratch\n",
        "build/Dockerfile.all": "FROM scratch\nCOPY . /\n",
        "a/Dockerfile.twice": "FROM scratch\n",
        "b/Dockerfile.twice": "FROM scratch\n",
        "plain/Dockerfile": "FROM scratch\n",
        "build/Dockerfile.plain": "FROM scratch\n",
        "build/Dockerfile.nobody": "FROM scratch\n",
        "build/Dockerfile.web.dockerignore": "",
    }.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    config = written(tmp_path, monkeypatch)
    assert {name: (image.context, image.dockerfile) for name, image in config.images.items()} == {
        "web": (".", "build/Dockerfile.web"),
        "api": ("docker", "api.Dockerfile"),
        "tool": ("build", "Dockerfile.tool"),
        "plain": ("plain", "Dockerfile"),
    }
    text = (tmp_path / "pipeline.yaml").read_text()
    for path in ("build/Dockerfile.all", "a/Dockerfile.twice", "b/Dockerfile.twice"):
        assert f"# {path} has a name that values have" in text
    assert "nobody" not in text


def test_links_out_of_a_chart_are_written_as_paths(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "README.md").write_text("# Charts\n")
    for name in ("a", "b"):
        chart(tmp_path, f"charts/{name}")
    (tmp_path / "charts/a/README.md").symlink_to("../../README.md")
    (tmp_path / "charts/a/NOTES").symlink_to("values.yaml")
    config = written(tmp_path, monkeypatch)
    assert [(entry.path, entry.paths) for entry in config.charts] == [
        ("charts/*", None),
        ("charts/a", ("README.md",)),
    ]


def test_of_folders_with_one_chart_the_highest_version_is_taken_and_the_rest_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for version in ("v1.9.0", "v1.10.0", "latest"):
        chart(tmp_path, f"charts/{version}/web")
        text = f"apiVersion: v2\nname: web\nversion: {version}\n"
        (tmp_path / f"charts/{version}/web/Chart.yaml").write_text(text)
    for name in ("api", "copy"):
        chart(tmp_path, f"charts/{name}")
    (tmp_path / "charts/copy/Chart.yaml").write_text("name: api\nversion: 0.0.1\n")
    config = written(tmp_path, monkeypatch)
    assert [entry.path for entry in config.charts] == ["charts/api", "charts/v1.10.0/web"]
    text = (tmp_path / "pipeline.yaml").read_text()
    assert "# 3 folders have a chart web" in text and "charts/v1.9.0/web" in text


def test_templates_and_test_data_are_no_charts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in ("charts/web", "template/{{name}}", "pkg/testdata/bad"):
        chart(tmp_path, folder)
    (tmp_path / "template/{{name}}/Chart.yaml").write_text("name: {{name}}\n")
    (tmp_path / "pkg/testdata/bad/Chart.yaml").write_text("name: [\n")
    config = written(tmp_path, monkeypatch)
    assert [entry.path for entry in config.charts] == ["charts/*"]
    text = (tmp_path / "pipeline.yaml").read_text()
    assert "# 'template/{{name}}' is left out" in text


def test_an_image_inside_of_a_chart_is_no_other_charts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in deliveryhero's charts: a vendor's `cachethq/docker`, and exporter/docker/Dockerfile."""
    chart(tmp_path, "stable/cachet", "image: {repository: cachethq/docker, tag: x}\n")
    chart(tmp_path, "stable/other", "image: {repository: r.io/t/exporter, tag: x}\n")
    chart(tmp_path, "stable/exporter", "image: {repository: r.io/t/exporter, tag: x}\n")
    dockerfile(tmp_path, "stable/exporter/docker")
    config = written(tmp_path, monkeypatch)
    assert {entry.path for entry in config.charts if entry.images} == {"stable/exporter"}
    assert config.images["exporter"].context == "stable/exporter/docker"


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


@pytest.mark.parametrize(
    ("values", "mapped"),
    [
        ("hub: {image: {name: quay.io/t/hub, tag: x}}", {"hub.image.name": "{repository}", "hub.image.tag": "{tag}"}),
        ("a: {image: quay.io/t/hub, tag: x}", {"a.image": "{repository}", "a.tag": "{tag}"}),
        ("a: {image: {registry: r.io, image: t/hub, tag: x}}",
            {"a.image.image": "{path}", "a.image.tag": "{tag}", "a.image.registry": "{registry}"}),
        ("a: {image: t/hub, tag: x}", None),  # the registry may be in another key
        ("a: {image: 't/hub:1', tag: x}", {"a.image": "{reference}"}),
        ("a: {name: hub, tag: x}", None),
        ("image: {repository: hub, tag: x}", {"image.repository": "{repository}", "image.tag": "{tag}"}),
        ("image: {repository: hub}", None),
        ("images: [hub]", None),
    ],
)  # fmt: skip
def test_values_name_an_image_in_many_ways(
    values: str, mapped: dict[str, str] | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chart(tmp_path, "charts/web", values)
    dockerfile(tmp_path, "images/hub")
    config = written(tmp_path, monkeypatch)
    images = {name: keys for entry in config.charts for name, keys in (entry.images or {}).items()}
    assert images == ({"hub": mapped} if mapped else {})


def test_a_folder_with_a_general_name_is_the_image_that_values_call_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chart(tmp_path, "charts/web", "image: {repository: r.io/t/app, tag: x}\n")
    dockerfile(tmp_path, "docker/app")
    assert written(tmp_path, monkeypatch).images["app"].context == "docker/app"
