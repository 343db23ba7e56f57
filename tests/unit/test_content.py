"""Which charts a checkout has, and what their content is and is not made of, on real git checkouts."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline_steps.building.build_definition import read_build_definition
from pipeline_steps.config import config_file
from pipeline_steps.toolbox.errors import ConfigurationError
from pipeline_steps.workspace.checkout import Checkout
from tests.support.gits import Repo, chart

PIPELINE = """\
charts:
  - path: charts/*
  - path: charts/{api,worker}
    images: {backend: {image.repository: "{repository}"}}
  - path: charts/common
    tests: {none: "library, tested through its dependents"}
images:
  backend: {context: apps/backend}
  unused: {context: apps/unused}
"""

#: First digits of the contents of `repo`, as versions that wrote no `Pipeline-Format` told them.
FORMAT_1 = {
    "api": "3709e9128deb",
    "common": "6a0252bac12f",
    "umbrella": "088364f29f3c",
    "worker": "7d0bac01faf4",
}


@pytest.fixture
def repo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Repo:
    made = Repo(tmp_path / "checkout", tmp_path / "gitconfig")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(made.config))
    made.put("pipeline.yaml", PIPELINE)
    made.put("charts/api/Chart.yaml", chart("api", "0.1.0", "common"))
    made.put("charts/api/values.yaml", "a: 1\n")
    made.put("charts/worker/Chart.yaml", chart("worker"))
    made.put("charts/umbrella/Chart.yaml", chart("umbrella", "0.1.0", "api"))
    made.put("charts/common/Chart.yaml", chart("common", more="type: library\n"))
    made.put("charts/not-a-chart/README", "nothing")
    made.put("apps/backend/Dockerfile", "FROM scratch\n")
    made.put("apps/backend/main", "code")
    made.put("apps/unused/Dockerfile", "FROM scratch\n")
    made.commit("first")
    return made


def opened(repo: Repo, revision: str | None = None) -> Checkout:
    return Checkout(config_file.load(environ={}, start=repo.root), revision)


def contents(repo: Repo, revision: str | None = None) -> dict[str, str]:
    checkout = opened(repo, revision)
    return {name: checkout.chart(name).content for name in checkout.charts}


def changed(repo: Repo, before: dict[str, str]) -> set[str]:
    after = contents(repo)
    return {name for name in {*before, *after} if before.get(name) != after.get(name)}


def test_charts_list_subcharts_images_and_closure(repo: Repo) -> None:
    checkout = opened(repo)
    assert list(checkout.charts) == ["api", "common", "umbrella", "worker"]
    umbrella = checkout.chart("umbrella")
    assert umbrella.subcharts == ("charts/api", "charts/common")
    assert umbrella.images == ("backend",)
    assert umbrella.closure == (
        "apps/backend/Dockerfile",
        "apps/backend/main",
        "charts/api/Chart.yaml",
        "charts/api/values.yaml",
        "charts/common/Chart.yaml",
        "charts/umbrella/Chart.yaml",
    )
    assert checkout.chart("common").entry.tests.none.startswith("library")
    assert checkout.image_entry("backend").context == "apps/backend"


@pytest.mark.parametrize(
    ("path", "affected"),
    [
        ("charts/api/values.yaml", {"api", "umbrella"}),
        ("charts/api/new-untracked-file", {"api", "umbrella"}),
        ("charts/common/Chart.yaml", {"common", "api", "umbrella"}),
        ("apps/backend/main", {"api", "worker", "umbrella"}),
        ("apps/backend/deep/new", {"api", "worker", "umbrella"}),
        ("apps/unused/Dockerfile", set()),
        ("README.md", set()),
        (".pipeline/state.jsonl", set()),
        ("charts/not-a-chart/README", set()),
        ("charts/apiary/values.yaml", set()),
    ],
)
def test_a_file_changes_the_content_of_those_that_hold_it(
    repo: Repo, path: str, affected: set[str]
) -> None:
    before = contents(repo)
    text = (
        chart("common", more="type: library\ndescription: new\n")
        if path.endswith("Chart.yaml")
        else "changed"
    )
    repo.put(path, text)
    assert changed(repo, before) == affected
    modified = {name for name, value in opened(repo).charts.items() if value.modified}
    assert modified == affected
    repo.commit("the same files, committed")
    assert changed(repo, before) == affected
    assert not any(value.modified for value in opened(repo).charts.values())


@pytest.mark.parametrize(
    ("old", "new", "affected"),
    [
        ("{image.repository:", "{image.name:", {"api", "worker", "umbrella"}),
        (
            "context: apps/backend}",
            "context: apps/backend, target: run}",
            {"api", "worker", "umbrella"},
        ),
        ("context: apps/unused}", "context: apps/unused, target: run}", set()),
        ("library, tested", "library: tested", set()),
        ('{image.repository: "{repository}"}', "{\"image.repository\": '{repository}'}", set()),
        (
            "context: apps/backend}",
            "context: apps/backend, dockerfile: Dockerfile, args: {}}",
            set(),
        ),
        (
            "  - path: charts/*\n",
            "  - path: charts/api\n  - path: charts/[ucw]*\n    images: {}\n",
            set(),
        ),
        ("charts:\n", "# a comment\ncharts:\n", set()),
        ("path: charts/{api,worker}", "path: charts/[aw]*", set()),
        ("images:\n", "evidence: file:///store\nimages:\n", set()),
        (
            "context: apps/backend",
            "context: ./apps/backend/, dockerfile: ./Dockerfile, platforms: [], secrets: [], args: {}",
            set(),
        ),
    ],
)
def test_only_the_entries_about_a_chart_are_its_content(
    repo: Repo, old: str, new: str, affected: set[str]
) -> None:
    before = contents(repo)
    assert old in PIPELINE
    repo.put("pipeline.yaml", PIPELINE.replace(old, new))
    assert changed(repo, before) == affected
    assert {name for name, value in opened(repo).charts.items() if value.modified} == affected


def test_another_folder_that_is_the_chart_modifies_it(repo: Repo) -> None:
    repo.put("alt/common/Chart.yaml", chart("common", "0.2.0"))
    repo.put("pipeline.yaml", "charts: [{path: charts/common}]\n")
    repo.commit()
    repo.put("pipeline.yaml", "charts: [{path: alt/*}]\n")
    assert opened(repo).chart("common").modified == ("pipeline.yaml",)


def test_an_overlay_and_the_environment_change_no_content(repo: Repo, tmp_path: Path) -> None:
    before = contents(repo)
    overlay = tmp_path / "overlay.yaml"
    overlay.write_text(
        "charts: [{path: charts/api, tests: {timeout: 9m}}]\nchannels: {snapshot: {images: '${WHERE}'}}\n"
    )
    checkout = Checkout(
        config_file.load([overlay], environ={"WHERE": "x.example.com"}, start=repo.root)
    )
    assert {name: value.content for name, value in checkout.charts.items()} == before
    assert checkout.chart("api").entry.tests.timeout == "9m"
    assert checkout.chart("api").entry.images == {"backend": {"image.repository": "{repository}"}}


def test_the_same_files_have_the_same_content_in_any_history_and_folder(
    repo: Repo, tmp_path: Path
) -> None:
    repo.put("charts/api/values.yaml", "a: 2\n")
    repo.put("charts/api/run.sh", "#!", executable=True)
    repo.commit("second")
    squashed = Repo(tmp_path / "squashed", repo.config)
    for path in opened(repo).tree.entries():
        place = repo.root / path
        squashed.put(
            f"deep/er/{path}", place.read_bytes(), executable=bool(place.stat().st_mode & 0o100)
        )
    squashed.commit("all at once")
    squashed.root = squashed.root / "deep" / "er"
    assert contents(squashed) == contents(repo)
    assert opened(squashed).folder == "deep/er"


def test_kind_and_link_target_are_content(repo: Repo) -> None:
    seen = [contents(repo)["worker"]]
    place = repo.put("charts/worker/run", "x")
    seen.append(contents(repo)["worker"])
    place.chmod(0o755)
    seen.append(contents(repo)["worker"])
    place.unlink()
    place.symlink_to("Chart.yaml")
    seen.append(contents(repo)["worker"])
    place.unlink()
    repo.put("charts/worker/values.yaml", "")
    seen.append(contents(repo)["worker"])
    place.symlink_to("values.yaml")
    seen.append(contents(repo)["worker"])
    assert len(set(seen)) == 6


def test_two_images_that_set_one_values_key_are_refused_by_name(repo: Repo) -> None:
    mapping = "{backend: {image.tag: '{tag}'}, unused: {image.tag: '{tag}'}}"
    repo.put(
        "pipeline.yaml", PIPELINE.replace('{backend: {image.repository: "{repository}"}}', mapping)
    )
    for name in ("api", "worker", "umbrella"):
        with pytest.raises(
            ConfigurationError,
            match=r"pipeline\.yaml:4: the images backend and unused both set image\.tag \(give each",
        ):
            opened(repo).chart(name)
    shared = "{backend: {image.registry: '{registry}'}, unused: {image.registry: '{registry}'}}"
    repo.put(
        "pipeline.yaml", PIPELINE.replace('{backend: {image.repository: "{repository}"}}', shared)
    )
    assert opened(repo).chart("api").images == ("backend", "unused")


def test_a_link_and_a_copy_of_what_it_names_are_the_same_content(repo: Repo) -> None:
    place = repo.put(
        "charts/worker/copy.yaml", (repo.root / "charts/worker/Chart.yaml").read_text()
    )
    before = contents(repo)
    place.unlink()
    place.symlink_to("Chart.yaml")
    assert changed(repo, before) == set()


@pytest.mark.parametrize(
    ("path", "ignored_by"),
    [
        ("charts/api/ci/ha-values.yaml", "charts/api/.helmignore"),
        ("apps/backend/notes.md", "apps/backend/.dockerignore"),
    ],
)
def test_what_helm_and_docker_ignore_is_no_content_but_part_of_the_closure(
    repo: Repo, path: str, ignored_by: str
) -> None:
    repo.put(ignored_by, f"{Path(path).name}\n.dockerignore\n.helmignore\n")
    repo.put(path, "a: 1\n")
    repo.commit("ignored")
    before, stored = contents(repo), opened(repo).chart("api").folder_digest
    repo.put(path, "a: 1 # why\n")
    api = opened(repo).chart("api")
    assert changed(repo, before) == set() and path in api.closure and api.modified == ()
    assert (api.folder_digest != stored) == path.startswith("charts/")


def test_an_umbrella_packs_its_subcharts_by_their_own_helmignore(repo: Repo) -> None:
    repo.put("charts/api/.helmignore", "secret.txt\n")
    repo.put("charts/api/secret.txt", "1")
    before = contents(repo)
    repo.put("charts/api/secret.txt", "2")
    assert changed(repo, before) == set()
    repo.put("charts/umbrella/.helmignore", "values.yaml\n")
    before = contents(repo)
    repo.put("charts/api/values.yaml", "a: 2\n")
    assert changed(repo, before) == {"api", "umbrella"}


def test_contents_of_format_1_are_those_of_tags_without_a_format(repo: Repo) -> None:
    checkout = opened(repo)
    assert {
        name: checkout.chart_content_format_1(name)[7:19] for name in checkout.charts
    } == FORMAT_1


def test_an_image_has_a_content_of_its_own(repo: Repo) -> None:
    before = opened(repo).image_content("backend")
    repo.put("charts/api/values.yaml", "changed")
    assert opened(repo).image_content("backend") == before
    repo.put("apps/backend/main", "changed")
    after = opened(repo).image_content("backend")
    assert after != before
    assert opened(repo).image_content("unused") not in (before, after)
    with pytest.raises(
        ConfigurationError, match=r"pipeline\.yaml:7: there is no image 'backed' \(there is backend"
    ):
        opened(repo).image_content("backed")


@pytest.mark.parametrize("name", ["Dockerfile", ".dockerignore", "Dockerfile.dockerignore"])
def test_what_says_how_an_image_is_built_is_no_link(repo: Repo, name: str) -> None:
    """The text of a link was read for the rules of .dockerignore, so that nothing was left out."""
    repo.put("apps/backend/other", "main\n")
    (repo.root / "apps/backend" / name).unlink(missing_ok=True)
    (repo.root / "apps/backend" / name).symlink_to("other")
    with pytest.raises(ConfigurationError, match=rf"apps/backend/{name} is a symbolic link"):
        read_build_definition(opened(repo), "backend")


def test_a_revision_has_the_charts_and_entries_of_its_own_pipeline_yaml(repo: Repo) -> None:
    before = contents(repo)
    first = repo.git("rev-parse", "HEAD")
    repo.put("pipeline.yaml", "charts: [{path: charts/worker}]\n")
    repo.put("charts/worker/Chart.yaml", chart("renamed"))
    repo.commit("second")
    assert list(opened(repo).charts) == ["renamed"]
    assert contents(repo, first) == before
    assert opened(repo, first).chart("worker").entry.images == {
        "backend": {"image.repository": "{repository}"}
    }
    assert opened(repo, first).chart("api").modified == ()


def test_extra_paths_are_part_of_the_closure(repo: Repo) -> None:
    repo.put("shared/x/y", "1")
    repo.put("one", "1")
    repo.put("pipeline.yaml", PIPELINE + "# end\n")
    repo.put(
        "pipeline.yaml",
        PIPELINE.replace(
            "charts/common\n", "charts/common\n    paths: [shared/, one, apps/**/main]\n"
        ),
    )
    repo.commit()
    before = contents(repo)
    assert opened(repo).chart("common").closure[:1] == ("apps/backend/main",)
    repo.put("shared/x/y", "2")
    assert changed(repo, before) == {"common", "api", "umbrella"}


def test_mainline_position_counts_changes_of_the_closure_only(repo: Repo) -> None:
    first = opened(repo).mainline_position(opened(repo).chart("worker"))
    repo.put("charts/api/values.yaml", "changed")
    repo.commit()
    assert opened(repo).mainline_position(opened(repo).chart("worker")) == first
    repo.put("apps/backend/main", "changed")
    repo.commit()
    assert opened(repo).mainline_position(opened(repo).chart("worker")) > first


def test_a_changed_entry_counts_as_a_change_of_its_charts_only(repo: Repo) -> None:
    at = {
        name: opened(repo).mainline_position(opened(repo).chart(name))
        for name in ("worker", "common")
    }
    repo.put(
        "pipeline.yaml",
        PIPELINE.replace("context: apps/backend}", "context: apps/backend, target: run}"),
    )
    repo.commit("about the worker's image")
    repo.put("pipeline.yaml", (repo.root / "pipeline.yaml").read_text() + "# about nothing\n")
    repo.commit()
    checkout = opened(repo)
    assert checkout.mainline_position(checkout.chart("worker")) == at["worker"] + 1
    assert checkout.mainline_position(checkout.chart("common")) == at["common"]


def test_a_first_configuration_changes_no_chart_of_which_it_only_names_the_folder(
    repo: Repo,
) -> None:
    repo.git("rm", "-q", "pipeline.yaml")
    repo.put("charts/worker/values.yaml", "newest: change\n")
    changed_at = repo.git("rev-list", "--count", "HEAD")
    repo.commit()
    repo.put("pipeline.yaml", "charts: [{path: charts/*}]\n")
    repo.commit()
    position = opened(repo).mainline_position(opened(repo).chart("worker"))
    assert position == int(changed_at) + 1


def test_another_folder_that_is_the_chart_counts_as_a_change_of_it(repo: Repo) -> None:
    """Its files may be older than the newest snapshot of the former folder, and must sort above."""
    repo.put("alt/common/Chart.yaml", chart("common", "0.2.0"))
    repo.put("pipeline.yaml", "charts: [{path: charts/common}]\n")
    repo.commit()
    repo.put("charts/common/values.yaml", "newer: than the other folder\n")
    repo.commit()
    before = opened(repo).mainline_position(opened(repo).chart("common"))
    repo.put("pipeline.yaml", "charts: [{path: alt/*}]\n")
    repo.commit()
    assert opened(repo).mainline_position(opened(repo).chart("common")) == before + 1


BAD = {
    "a folder without chart": (
        {"pipeline.yaml": "charts:\n  - path: charts/not-a-chart\n"},
        r"pipeline\.yaml:2: there is no charts/not-a-chart/Chart\.yaml in the source",
    ),
    "one brace without chart": (
        {"pipeline.yaml": "charts:\n  - path: charts/{api,gone}\n"},
        r"pipeline\.yaml:2: there is no charts/gone/Chart\.yaml",
    ),
    "a glob that fits nothing": (
        {"pipeline.yaml": "charts:\n  - path: chart/*\n"},
        r"pipeline\.yaml:2: no folder with a Chart\.yaml fits 'chart/\*'",
    ),
    "outside": (
        {"pipeline.yaml": "charts:\n  - path: ../charts/*\n"},
        r"pipeline\.yaml:2: '\.\./charts/\*' leaves the folder of pipeline\.yaml",
    ),
    "one name twice": (
        {"charts/twin/Chart.yaml": chart("api")},
        r"charts/api/Chart\.yaml: the chart name api stands for charts/api and charts/twin",
    ),
    "a missing subchart": (
        {"charts/worker/Chart.yaml": chart("worker", "0.1.0", "gone")},
        r"charts/worker/Chart\.yaml: the dependency gone needs charts/gone/Chart\.yaml",
    ),
    "a circle": (
        {"charts/common/Chart.yaml": chart("common", "0.1.0", "api")},
        r"Chart\.yaml: the dependency \w+ leads back to",
    ),
    "an unknown image": (
        {"pipeline.yaml": PIPELINE.replace("  backend: {", "  backends: {")},
        r"pipeline\.yaml:7: the chart charts/api uses the image backend, which is not in images \(there is backends",
    ),
    "an empty context": (
        {"pipeline.yaml": PIPELINE.replace("apps/backend}", "apps/back}")},
        r"pipeline\.yaml:8: the image backend has the context 'apps/back', but the source has no file there",
    ),
    "no Dockerfile": (
        {
            "pipeline.yaml": PIPELINE.replace(
                "apps/backend}", "apps/backend, dockerfile: Dockerfile.x}"
            )
        },
        r"pipeline\.yaml:8: the image backend needs apps/backend/Dockerfile\.x, which is not in the source",
    ),
    "an empty extra path": (
        {
            "pipeline.yaml": PIPELINE.replace(
                "charts/common\n", "charts/common\n    paths: [gone/]\n"
            )
        },
        r"no file of the source fits the path 'gone/'",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_invalid_charts_are_refused_with_file_and_line(repo: Repo, case: str) -> None:
    written, message = BAD[case]
    for path, text in written.items():
        repo.put(path, text)
    with pytest.raises(ConfigurationError, match=message) as caught:
        contents(repo)
    assert caught.value.exit_code == 2


def test_an_unknown_chart_is_refused_with_the_nearest(repo: Repo) -> None:
    with pytest.raises(
        ConfigurationError, match=r"there is no chart 'umbrela' \(there is umbrella"
    ):
        opened(repo).chart("umbrela")


def test_an_ignored_pipeline_yaml_is_refused(repo: Repo) -> None:
    repo.git("rm", "-q", "--cached", "pipeline.yaml")
    repo.put(".gitignore", "pipeline.yaml\n")
    with pytest.raises(ConfigurationError, match="is not in the source"):
        contents(repo)


def test_submodules_that_ignore_files_leave_out_do_not_count(repo: Repo, tmp_path: Path) -> None:
    """A checkout has them as folders: `vendor/` fits, for helm and for docker."""
    other = Repo(tmp_path / "other", tmp_path / "gitconfig")
    other.put("file", "of another repository\n")
    other.commit()
    for folder, ignore in (("charts/worker", ".helmignore"), ("apps/backend", ".dockerignore")):
        repo.git(
            "-c", "protocol.file.allow=always", "submodule", "add", "-q", str(other.root),
            f"{folder}/vendor",
        )  # fmt: skip
        with pytest.raises(ConfigurationError, match=f"{folder}/vendor is a git repository"):
            contents(repo)
        repo.put(f"{folder}/{ignore}", "vendor/\n")
        repo.commit()
        assert contents(repo)
