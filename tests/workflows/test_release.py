"""The rules of a release, on a library chart in a folder repository: real git and helm, no engine,
no cluster.

Each refusal is asked of the command line: its words and its exit code are what users see.
"""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from pipeline_steps.auth.reference import Reference
from pipeline_steps.config.config_file import load
from pipeline_steps.oci.completeness import missing_digests
from pipeline_steps.oci.registry import Registry
from pipeline_steps.repositories.kinds import open_repository
from pipeline_steps.state.attempt import record_attempt
from pipeline_steps.state.state import State
from pipeline_steps.toolbox import files
from pipeline_steps.workspace.checkout import Checkout
from tests.support.helms import helm
from tests.support.images import push_base
from tests.support.registries import registry
from tests.support.release_line import CHART, MAP, PIPELINE, Line


@pytest.fixture
def line(tmp_path: Path) -> Iterator[Line]:
    yield Line(tmp_path)


def test_a_tested_chart_is_tagged_and_promoted_with_every_change_recorded(line: Line) -> None:
    line.tested()
    line.ok("tag_release", "--local", "--chart", "common")
    told = line.ok("promote", "--chart", "common").stderr
    assert "no cluster tests it (a library, tested through its dependents)" in told

    content = line.records("snapshot")[-1]["content"]
    assert line.repo.git("tag", "-l", "--format=%(contents)", "common-1.0.0").endswith(
        f"Pipeline-Content: common 1.0.0 {content}"
    )
    promoted = line.records("promote")[-1]
    assert promoted["result"] == "passed" and promoted["content"] == content
    [change] = promoted["parameters"]["changes"]
    assert (change["file"], change["key"], change["new"].strip()) == (
        "Chart.yaml",
        "version",
        "1.0.0",
    )
    used = {record["id"] for record in line.records("integration_test")}
    assert used & set(promoted["uses"])

    pulled = subprocess.run(
        [helm(3), "show", "chart", line.folder / "charts/common-1.0.0.tgz"],
        capture_output=True,
        text=True,
    )
    assert "version: 1.0.0" in pulled.stdout, pulled.stderr


def test_tag_release_and_promote_again_do_nothing(line: Line) -> None:
    line.tested()
    for words in (
        ["tag_release", "--local", "--chart", "common"],
        ["promote", "--chart", "common"],
    ):
        line.ok(*words)
        assert "already done" in line.ok(*words).stderr


def test_promote_plan_lists_each_write_and_writes_nothing(line: Line) -> None:
    line.tested()
    line.ok("tag_release", "--local", "--chart", "common")
    before = line.records("promote")
    output = line.ok("promote", "--chart", "common", "--plan").stderr

    assert (
        "common-1.0.0.tgz (tar sha256:" in output
        and "would be published, replacing nothing" in output
    )
    assert list((line.folder / "charts").iterdir()) == [] and line.records("promote") == before


def test_content_without_a_test_is_refused_naming_the_nearest_tested_one(line: Line) -> None:
    line.tested()
    line.repo.put("charts/common/templates/map.yaml", MAP.replace("hello", "good day"))
    line.repo.commit()
    line.ok("check", "--chart", "common")

    line.refused(
        4, "the nearest tested content is sha256:", "tag_release", "--local", "--chart", "common"
    )
    line.refused(
        4,
        "which differs in charts/common/templates/map.yaml",
        "tag_release",
        "--local",
        "--chart",
        "common",
    )


def test_a_snapshot_whose_archive_was_lost_is_given_back(line: Line) -> None:
    """`snapshot` refused, and said to restore the archive by hand or to regenerate a repository of
    snapshots.
    """
    line.tested()
    [archive] = (line.folder / "snapshots").glob("*.tgz")
    data = archive.read_bytes()
    archive.unlink()
    line.refused(4, "run build_image, snapshot and integration_test", "tag_release", "--local")
    line.refused(4, "run pipeline-steps snapshot", "integration_test", "--chart", "common")
    assert "restored" in line.ok("snapshot", "--chart", "common").stderr
    assert archive.read_bytes() == data
    assert "already done" in line.ok("integration_test", "--chart", "common").stderr
    line.ok("tag_release", "--local", "--chart", "common")


@pytest.mark.parametrize("backwards", [False, True], ids=["in order", "the file reversed"])
def test_the_nearest_tested_content_is_the_one_that_differs_least(
    line: Line, backwards: bool
) -> None:
    """It was the one that was recorded last."""
    for name in ("near", "far"):
        for number in range(1 if name == "near" else 3):
            line.repo.put(f"charts/common/templates/{name}-{number}.yaml", f"# {name}\n")
        line.repo.commit()
        for step in ("snapshot", "integration_test"):
            line.ok(step, "--chart", "common")
    near, _far = (record["content"] for record in line.records("integration_test"))
    line.repo.git("reset", "--hard", "-q", "HEAD~1")
    line.repo.put("charts/common/templates/map.yaml", MAP.replace("hello", "good day"))
    line.repo.commit()
    line.ok("check", "--chart", "common")
    state = line.repo.root / ".pipeline/state.jsonl"
    if backwards:
        state.write_bytes(b"".join(reversed(state.read_bytes().splitlines(keepends=True))))
    said = f"content is {near[:19]} of revision {line.repo.git('rev-parse', 'HEAD~1')[:12]}"
    line.refused(4, said, "tag_release", "--local", "--chart", "common")
    said = "which differs in charts/common/templates/map.yaml"
    line.refused(4, said, "tag_release", "--local", "--chart", "common")


def test_promote_without_any_test_is_refused(line: Line) -> None:
    line.ok("check", "--chart", "common")
    line.repo.git("tag", "common-1.0.0")
    line.refused(
        4,
        "run build_image, snapshot and integration_test first",
        "promote",
        "--tag",
        "common-1.0.0",
    )


def test_promote_without_a_check_that_production_requires_is_refused(line: Line) -> None:
    for step in ("snapshot", "integration_test"):
        line.ok(step, "--chart", "common")
    line.refused(4, "no record of check for content", "tag_release", "--local", "--chart", "common")


def test_local_modifications_are_built_and_marked_and_never_released(line: Line) -> None:
    line.repo.put("charts/common/templates/map.yaml", MAP.replace("hello", "good day"))
    line.tested()
    assert line.records("snapshot")[-1]["outputs"]["chart"].partition("@")[0].endswith(".dirty.tgz")
    line.repo.git("tag", "common-1.0.0")
    for words in (
        ["tag_release", "--local", "--chart", "common"],
        ["promote", "--tag", "common-1.0.0"],
    ):
        line.refused(4, "local modifications: charts/common/templates/map.yaml", *words)


@pytest.mark.parametrize("stored", ["approvals: {two: {by: [someone]}}\n", "# nothing\n"])
def test_an_edit_of_who_approves_releases_nothing(line: Line, stored: str) -> None:
    text = (line.repo.root / "pipeline.yaml").read_text()
    line.repo.put("pipeline.yaml", text + stored)
    line.repo.commit()
    edited = "" if "two" in stored else "approvals: {one: {by: [someone]}}\n"
    line.repo.put("pipeline.yaml", text + edited)
    line.tested()
    line.refused(4, "has local modifications: pipeline.yaml", "tag_release", "--local")


def test_an_edit_that_asks_for_no_test_releases_nothing(line: Line) -> None:
    """It changes no content: the chart was tagged without a test, and promote refused the tag."""
    text = (line.repo.root / "pipeline.yaml").read_text()
    line.repo.put("pipeline.yaml", re.sub(".*none:.*\n", "", text))
    line.repo.commit()
    line.repo.put("pipeline.yaml", text)
    line.tested()
    line.refused(4, "has local modifications: pipeline.yaml", "tag_release", "--local")
    line.repo.commit()
    line.repo.put("pipeline.yaml", f"{text}check: {{with_subcharts: true}}\n")
    line.refused(4, "has local modifications: pipeline.yaml", "tag_release", "--local")


def test_a_dirty_snapshot_is_not_released_after_the_commit(line: Line) -> None:
    line.repo.put("charts/common/templates/map.yaml", MAP.replace("hello", "good day"))
    line.tested()
    line.repo.commit()
    line.refused(4, "made of local modifications", "tag_release", "--local", "--chart", "common")
    line.ok("snapshot", "--chart", "common")
    line.ok("tag_release", "--local", "--chart", "common")


def test_a_production_version_with_other_content_is_never_replaced(line: Line) -> None:
    """Acceptance test A7 (goharbor/harbor#13146): `helm push` and others put theirs in its place."""
    line.tested()
    line.ok("tag_release", "--local", "--chart", "common")
    line.ok("promote", "--chart", "common")
    there = (line.folder / "charts/common-1.0.0.tgz").read_bytes()
    line.repo.git("tag", "-d", "common-1.0.0")
    line.repo.put("charts/common/templates/map.yaml", MAP.replace("hello", "good day"))
    line.repo.commit()
    line.tested()

    line.refused(
        5,
        "common 1.0.0 is already there with another content",
        "tag_release",
        "--local",
        "--chart",
        "common",
    )
    line.repo.git("tag", "common-1.0.0")
    line.refused(
        5, "common 1.0.0 is already there with another content", "promote", "--tag", "common-1.0.0"
    )
    assert (line.folder / "charts/common-1.0.0.tgz").read_bytes() == there


def test_a_production_image_with_another_digest_is_never_replaced(line: Line) -> None:
    """Acceptance test A7 for images, whose tag somebody took in production: nothing of the release
    is written.
    """
    with registry(line.folder / "registry") as running:
        pipeline = PIPELINE.format(base=line.base, more=f", images: {running.host}/production")
        pipeline = pipeline.replace("charts/*", "charts/*\n    images: {app: {image.repository: '{repository}',"
                                    " image.tag: '{tag}'}}")  # fmt: skip
        pipeline = pipeline.replace('snapshots"', f'snapshots", images: {running.host}/snap')
        line.repo.put("pipeline.yaml", f"{pipeline}images: {{app: {{context: app}}}}\n")
        line.repo.put("charts/common/values.yaml", "image: {repository: x, tag: none}\n")
        line.repo.put("app/Dockerfile", "FROM scratch\nCOPY Dockerfile /\n")
        line.repo.commit()
        api = Registry(running.host, plain_http=True)
        built = push_base(api, "snap/app", "k-1", b"built")
        config = load((), environ={}, start=line.repo.root)
        state, content = (
            State(line.repo.root / ".pipeline/state.jsonl"),
            Checkout(config).image_content("app"),
        )
        with record_attempt(
            state, step="build_image", subject="app", key="k", content=content
        ) as build:
            build.passed({"image": f"{running.host}/snap/app:k-1@{built}"})
        line.tested()
        line.ok("tag_release", "--local", "--chart", "common")
        [target] = re.findall(
            rf"{running.host}/(production/\S+?):([^\s@]+)", line.ok("promote", "--plan").stderr
        )
        theirs = push_base(api, target[0], target[1], b"theirs")

        line.refused(5, f"theirs {theirs}, ours {built}", "promote", "--chart", "common")
        there = api.head(*target)
        assert there is not None and there.digest == theirs


def test_a_withdrawn_version_is_neither_tagged_nor_promoted(line: Line) -> None:
    line.tested()
    pipeline = PIPELINE.format(base=line.base, more="")
    line.repo.put("pipeline.yaml", f"{pipeline}release: {{withdrawn: [common-1.0.0]}}\n")
    line.repo.commit()
    line.refused(5, "common 1.0.0 is withdrawn", "tag_release", "--local", "--chart", "common")
    assert line.repo.git("tag") == ""
    line.repo.git("tag", "common-1.0.0")
    line.refused(5, "common 1.0.0 is withdrawn", "promote", "--tag", "common-1.0.0")
    assert not list((line.folder / "charts").iterdir())


def test_a_cancelled_release_does_not_block_the_next(line: Line) -> None:
    """Acceptance test A13: jenkins-x/jx#3701, where the build after a cancelled one never published
    its chart.
    """
    line.tested()
    line.ok("tag_release", "--local", "--chart", "common")
    command = [sys.executable, "-m", "pipeline_steps", "promote", "--tag", "common-1.0.0"]
    # It waits for the lock of another publisher, or it might be done before it is cancelled.
    with files.locked(line.folder / "charts/.lock"):
        cancelled = subprocess.Popen(
            command, cwd=line.repo.root, env=line.environment(), stderr=subprocess.DEVNULL
        )
        while not any(record["result"] == "started" for record in line.records("promote")):
            assert cancelled.poll() is None, "it ended before it was cancelled"
        cancelled.kill()
        assert cancelled.wait() == -signal.SIGKILL

    line.repo.put("charts/common/Chart.yaml", CHART.format(version="1.0.1"))
    line.repo.commit()
    line.tested()
    line.ok("tag_release", "--local", "--chart", "common")
    line.ok("promote", "--tag", "common-1.0.1")
    assert (line.folder / "charts/common-1.0.1.tgz").exists()
    line.ok("promote", "--tag", "common-1.0.0")
    assert open_repository(f"file://{line.folder}/charts", {}).versions("common") == [
        "1.0.1",
        "1.0.0",
    ]


def test_a_tag_on_other_content_is_never_moved(line: Line) -> None:
    line.repo.git("tag", "common-1.0.0")
    line.repo.put("charts/common/templates/map.yaml", MAP.replace("hello", "good day"))
    line.repo.commit()
    for step in ("snapshot", "integration_test"):
        line.ok(step, "--chart", "common")
    line.configure(", requires: [integration_test]")
    line.repo.commit()
    line.refused(5, "tag common-1.0.0 exists at", "tag_release", "--local", "--chart", "common")


def test_a_template_that_asks_for_the_version_is_refused_by_name_and_line(line: Line) -> None:
    asking = MAP + '{{ if contains "-0." .Chart.Version }}  snapshot: "yes"{{ end }}\n'
    line.repo.put("charts/common/templates/map.yaml", asking)
    line.repo.commit()
    line.tested()
    line.refused(8, "common/templates/map.yaml", "tag_release", "--local", "--chart", "common")


SECRET = 'apiVersion: v1\nkind: Secret\nmetadata: {name: x}\nstringData: {password: "{{ randAlphaNum 20 }}"%s}\n'


def test_a_chart_that_makes_passwords_by_chance_is_released_and_check_says_so(line: Line) -> None:
    line.repo.put("charts/common/templates/secret.yaml", SECRET % "")
    line.repo.commit()
    output = line.ok("check", "--chart", "common").stderr
    assert "renders otherwise each time with its own values" in output
    assert "common/templates/secret.yaml:4" in output
    line.tested()
    line.ok("tag_release", "--local", "--chart", "common")
    line.ok("promote", "--chart", "common")
    assert "nothing else is rendered" in line.ok("snapshot", "--chart", "common", "--diff").stderr


def test_a_template_that_asks_for_the_version_beside_chance_is_refused(line: Line) -> None:
    asks = ', debug: "{{ contains "-0." .Chart.Version }}"'
    line.repo.put("charts/common/templates/secret.yaml", SECRET % asks)
    line.repo.commit()
    line.tested()
    message = "common/templates/secret.yaml:4: 'true' became 'false'"
    line.refused(8, message, "tag_release", "--local", "--chart", "common")


def test_a_template_that_asks_for_the_version_under_an_argument_for_helm_is_refused(
    line: Line,
) -> None:
    asking = '{{ if .Values.odd }}{{ if contains "-0." .Chart.Version }}  snapshot: "yes"{{ end }}{{ end }}\n'
    line.repo.put("charts/common/templates/map.yaml", MAP + asking)
    line.repo.put("ci/odd.yaml", "odd: true\n")
    line.configure()
    pipeline = (line.repo.root / "pipeline.yaml").read_text()
    line.repo.put("pipeline.yaml", f"{pipeline}tests: {{helm_args: [--values, ci/odd.yaml]}}\n")
    line.repo.commit()
    line.tested()
    line.refused(8, "common/templates/map.yaml", "tag_release", "--local", "--chart", "common")


def test_an_edited_record_is_no_evidence(line: Line) -> None:
    line.tested()
    state = line.repo.root / ".pipeline/state.jsonl"
    state.write_text(state.read_text().replace('"result":"passed"', '"result":"failed"', 1))
    line.refused(4, "was edited", "tag_release", "--local", "--chart", "common")


def test_passed_beside_failed_is_a_contradiction(line: Line) -> None:
    from pipeline_steps.state.state import State

    line.tested()
    other = State(line.folder / "elsewhere" / "state.jsonl")
    test = line.records("integration_test")[-1]
    other.add(
        {
            **{k: v for k, v in test.items() if k not in ("id", "schema")},
            "result": "failed",
            "supersedes": [],
        }
    )
    (line.repo.root / ".pipeline/state.other.jsonl").write_bytes(other.path.read_bytes())

    line.refused(4, "contradict each other: ", "tag_release", "--local", "--chart", "common")


def test_a_required_approval_needs_a_review_system(line: Line) -> None:
    line.tested()
    line.configure(", requires: [approval.code]")
    line.repo.commit()
    line.refused(
        2,
        "approval.code is required, and no review system",
        "tag_release",
        "--local",
        "--chart",
        "common",
    )


def test_state_show_get_and_verify_after_a_release(line: Line) -> None:
    line.tested()
    reference = line.ok("state", "get", "common", "snapshot.chart").stdout.strip()
    assert reference == line.records("snapshot")[-1]["outputs"]["chart"]
    assert "integration_test" in line.ok("state", "show").stdout
    assert "holds" in line.ok("state", "verify").stdout
    completed = line.run("state", "get", "common", "promote.chart")
    assert completed.returncode == 4 and "no passed promote of common" in completed.stderr

    Path(reference.removeprefix("file://").partition("@")[0]).write_bytes(b"edited")
    completed = line.run("state", "verify")
    assert completed.returncode == 4 and "changed: snapshot of common" in completed.stdout


def test_state_verify_finds_lost_entries_moved_tags_and_contradictions(line: Line) -> None:
    """Each of these was there no more, and `state verify` said that all holds."""
    line.tested()
    line.ok("tag_release", "--local", "--chart", "common")
    line.ok("state", "verify")

    index = line.folder / "snapshots/index.yaml"
    written = index.read_bytes()
    index.write_text("apiVersion: v1\nentries: {}\n")
    completed = line.run("state", "verify")
    assert completed.returncode == 4 and "gone: snapshot of common" in completed.stdout, (
        completed.stdout
    )
    index.write_bytes(written)

    line.repo.put("README", "another commit\n")
    line.repo.commit()
    line.repo.git("tag", "-f", "common-1.0.0")
    completed = line.run("state", "verify")
    assert completed.returncode == 4 and "changed: tag_release of common" in completed.stdout, (
        completed.stdout
    )
    line.repo.git("tag", "-d", "common-1.0.0")
    completed = line.run("state", "verify")
    assert completed.returncode == 4 and "gone: tag_release of common" in completed.stdout, (
        completed.stdout
    )

    test = line.records("integration_test")[-1]
    fields = {key: value for key, value in test.items() if key not in ("id", "schema")}
    State(line.repo.root / ".pipeline/state.jsonl").add(
        {**fields, "result": "failed", "supersedes": []}
    )
    completed = line.run("state", "verify")
    assert (
        completed.returncode == 4
        and "contradictory: integration_test of common" in completed.stdout
    ), completed.stdout


def test_promote_publishes_a_lost_archive_again(line: Line) -> None:
    line.tested()
    line.ok("tag_release", "--local", "--chart", "common")
    line.ok("promote", "--chart", "common")
    archive = line.folder / "charts/common-1.0.0.tgz"
    before = archive.read_bytes()
    archive.unlink()
    assert line.run("state", "verify").returncode == 4
    line.ok("promote", "--chart", "common")
    assert archive.read_bytes() == before
    line.ok("state", "verify")


def test_promote_publishes_again_what_the_index_lost(line: Line) -> None:
    line.tested()
    line.ok("tag_release", "--local", "--chart", "common")
    line.ok("promote", "--chart", "common")
    index = line.folder / "charts/index.yaml"
    before = yaml.safe_load(index.read_text())["entries"]
    index.write_text("apiVersion: v1\nentries: {}\n")
    line.ok("promote", "--chart", "common")
    assert yaml.safe_load(index.read_text())["entries"] == before


def test_a_tag_is_recorded_before_it_is_set(line: Line) -> None:
    """So that a run that dies in between does not leave a tag that nobody knows."""
    line.tested()
    line.ok("tag_release", "--local", "--chart", "common")
    line.ok("tag_release", "--local", "--global", "2026.12", "--all")
    intent, outcome, *of_all = line.records("tag_release")
    assert intent["result"] == "started" and outcome["result"] == "passed"
    assert intent["outputs"] == outcome["outputs"]
    assert [record["result"] for record in of_all] == ["started", "passed"]
    assert of_all[0]["outputs"] == of_all[1]["outputs"] != outcome["outputs"]


def test_promote_restores_layers_that_the_registry_lost(line: Line, tmp_path: Path) -> None:
    """Blobs were gone, all held, and `helm pull` failed."""
    with registry(tmp_path / "registry") as running:
        api = Registry(running.host, plain_http=True)
        source = f"{running.host}/snap/app:1"
        digest = push_base(api, "snap/app", "1", b"built")
        line.repo.put("charts/common/values.yaml", "image: {repository: x, tag: none}\n")
        pipeline = PIPELINE.format(base=line.base, more=f", images: {running.host}/production")
        for channel in ("charts", "snapshots"):
            there = f"{running.host}/{channel}"
            pipeline = pipeline.replace(f"file://{line.folder}/{channel}", f"oci://{there}")
        pipeline = pipeline.replace(
            "tests:", "images: {app: {image.repository: '{repository}'}}\n    tests:"
        )
        line.repo.put("pipeline.yaml", f"{pipeline}images: {{app: {{existing: '{source}'}}}}\n")
        line.repo.commit()
        line.ok("build_image", "--chart", "common")
        line.tested()
        stored = running.folder / "data/docker/registry/v2/repositories"
        shutil.rmtree(stored / "snapshots/common/_layers/sha256")
        line.refused(4, "run build_image, snapshot and integration_test", "tag_release", "--local")
        # It answered `already done`: the registry still has the manifest.
        assert "pushed it again" in line.ok("snapshot", "--chart", "common").stderr
        assert "already done" in line.ok("integration_test", "--chart", "common").stderr
        line.ok("tag_release", "--local", "--chart", "common")
        line.ok("promote", "--chart", "common")
        line.ok("state", "verify")
        chart = api.manifest("charts/common", "1.0.0")
        image = api.manifest("production/app", digest)
        assert chart and image
        for path, manifest in (("charts/common", chart), ("production/app", image)):
            shutil.rmtree(stored / f"{path}/_layers/sha256")  # of configuration and layers
            completed = line.run("state", "verify")
            assert (
                completed.returncode == 4 and "the registry has lost sha256:" in completed.stdout
            ), completed.stdout
            line.ok("promote", "--chart", "common")
            assert missing_digests(api, path, manifest.digest) == []
        config = chart.content["config"]["digest"].removeprefix("sha256:")
        shutil.rmtree(stored / f"charts/common/_layers/sha256/{config}")
        line.ok("promote", "--chart", "common")
        line.ok("state", "verify")
        reference = line.records("promote")[-1]["outputs"]["chart"]
        released = line.records("promote")[-1]["outputs"]["image:app"]
        tag = Reference.parse(released).tag or ""
        shutil.rmtree(stored / f"production/app/_manifests/tags/{tag}")  # its digest is there
        line.ok("promote", "--chart", "common")
        assert api.head("production/app", tag)
        assert "image:app" in line.ok("verify", reference).stdout
        shutil.rmtree(stored / "production/app/_layers/sha256")
        completed = line.run("verify", reference)
        assert completed.returncode == 4 and "the registry has lost sha256:" in completed.stderr, (
            completed.stderr
        )


def test_join_copies_what_another_agent_recorded(line: Line, tmp_path: Path) -> None:
    line.tested()
    away = tmp_path / "agent.jsonl"
    (line.repo.root / ".pipeline/state.jsonl").rename(away)
    line.ok("state", "join", str(away))
    line.ok("tag_release", "--local", "--chart", "common")


def test_a_tag_over_all_charts_is_not_set_where_one_cannot_be_read(line: Line) -> None:
    """It was set over the others, and told of the broken chart afterwards."""
    line.tested()
    line.repo.put("charts/broken/Chart.yaml", "apiVersion: v2\nname: broken\n")
    line.repo.commit()
    line.refused(2, "charts/broken/Chart.yaml", "tag_release", "--global", "2026.12", "--local")


def test_a_report_is_incomplete_while_a_selected_chart_cannot_be_read(line: Line) -> None:
    """It said that everything required has passed."""
    line.ok("check", "--chart", "common")
    line.tested()
    line.repo.put("charts/broken/Chart.yaml", "apiVersion: v2\nname: broken\n")
    line.repo.commit()
    line.refused(2, "charts/broken/Chart.yaml", "report", "--all")
    page = (line.repo.root / ".pipeline/report/report.md").read_text()
    assert page.startswith("# incomplete") and "the chart broken cannot be read" in page
    line.ok("report", "--chart", "common")
    assert (line.repo.root / ".pipeline/report/report.md").read_text().startswith("# passed")


def test_a_tag_over_all_charts_goes_by_the_contents_at_tags_of_format_1(line: Line) -> None:
    """Another digest of the same content was a conflict, and asked for a new version."""
    line.tested()
    content = Checkout(load((), environ={}, start=line.repo.root)).chart_content_format_1("common")
    text = f"Release common 1.0.0\n\nPipeline-Content: common 1.0.0 {content}"
    line.repo.git("tag", "-a", "common-1.0.0", "-m", text)
    every = ("tag_release", "--global", "2026.12", "--local", "--all", "--plan")
    line.ok(*every)
    line.repo.put("charts/common/templates/map.yaml", MAP.replace("hello", "good day"))
    line.repo.commit()
    line.refused(5, "the tag common-1.0.0 has version 1.0.0 with other content", *every)


def test_a_tag_set_locally_is_pushed_by_the_tag_release_that_follows(line: Line) -> None:
    subprocess.run(["git", "init", "-q", "--bare", line.folder / "origin"], check=True)
    line.repo.git("remote", "add", "origin", str(line.folder / "origin"))
    line.repo.git("push", "-q", "-u", "origin", "main")
    line.tested()
    line.ok("tag_release", "--local", "--chart", "common")
    assert "common-1.0.0" not in line.repo.git("ls-remote", "--tags", "origin")
    line.ok("tag_release", "--chart", "common")
    assert "common-1.0.0" in line.repo.git("ls-remote", "--tags", "origin")


def test_promote_without_a_tag_releases_what_is_checked_out_and_nothing_else(line: Line) -> None:
    line.tested()
    line.ok("tag_release", "--local", "--chart", "common")
    line.repo.put("charts/common/Chart.yaml", CHART.format(version="1.1.0"))
    line.repo.commit()
    line.tested()
    line.ok("tag_release", "--local", "--chart", "common")
    line.repo.git("checkout", "-q", "common-1.0.0")
    line.ok("promote", "--chart", "common")
    assert [path.name for path in (line.folder / "charts").glob("*.tgz")] == ["common-1.0.0.tgz"]


def test_promote_refuses_a_branch_as_tag(line: Line) -> None:
    line.tested()
    line.repo.git("branch", "common-1.0.0")
    line.refused(2, "there is no tag 'common-1.0.0' here", "promote", "--tag", "common-1.0.0")


def test_content_that_was_tested_at_another_revision_is_released_when_asked(line: Line) -> None:
    line.tested()
    line.repo.git("commit", "-q", "--amend", "-m", "other words")
    assert "already done: every chart has passed" in line.ok("integration_test").stderr
    line.ok("tag_release", "--local")
    line.ok("promote")
    assert (line.folder / "charts/common-1.0.0.tgz").exists()


def test_a_check_does_not_count_after_its_commands_changed(line: Line) -> None:
    line.tested()
    with (line.repo.root / "pipeline.yaml").open("a") as file:
        file.write('check: {commands: ["false"]}\n')
    line.repo.commit()
    line.refused(4, "no record of check for content", "tag_release", "--local", "--chart", "common")
    assert line.run("check", "--chart", "common", "--shard", "1/1").returncode == 8
    line.refused(4, "check of common failed", "tag_release", "--local", "--chart", "common")


def test_plans_of_all_steps_write_nothing(line: Line) -> None:
    line.ok("check", "--plan")
    line.ok("snapshot", "--plan")
    assert list((line.folder / "snapshots").iterdir()) == []
    assert not list(line.repo.root.glob(".pipeline/state*"))
