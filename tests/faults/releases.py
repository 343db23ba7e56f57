"""X1, X2: releases that must not happen, and their legitimate neighbours, each run end to end on
the command line.

What is released is what was tested and what the source stores: each case changes one thing between
the test and the release, or tries to bring in what nobody tested. A case that must not happen is
refused by its code and its words, or released as the source has it; nothing is published otherwise.
A neighbour that looks like one of them passes.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from pipeline_steps.charts.archive import unpack
from pipeline_steps.oci.registry import Registry
from tests.faults.figures import Figure, Settings, counted, spread
from tests.faults.world import World
from tests.support import images
from tests.support.registries import registry
from tests.support.release_line import CHART, MAP, PIPELINE, Line

#: How many of each kind run when not all do.
SAMPLED = 8
#: Variables by which builders are found.
BUILDERS = ("DOCKER_HOST", "DOCKER_CONFIG", "BUILDX_CONFIG", "BUILDX_BUILDER")
BEFORE, AFTER = ("check", "build_image", "snapshot", "integration_test"), ("tag_release", "promote")
REVIEW = {
    "GITLAB_CI": "true",
    "CI_MERGE_REQUEST_IID": "4",
    "CI_MERGE_REQUEST_TARGET_BRANCH_NAME": "main",
}
IMAGES = "images: {app: {context: app}}\n"
MAPPING = "images: {app: {image.repository: '{repository}', image.tag: '{tag}'}}"


class Case(NamedTuple):
    """name: what is tried. run: tries it on a fresh line; what is wrong, "" when all is as it has
    to be.
    """

    name: str
    run: Callable[[Line], str]


class Ended(NamedTuple):
    """How a release ended: code and words of the step that ended it, and the published archives by
    name.
    """

    code: int
    words: str
    published: dict[str, bytes]


def release(line: Line, *more: str, skip: Sequence[str] = (), **variables: str) -> Ended:
    """Run the whole workflow, up to the first step that is refused. more: options for every step."""
    environment = {
        **{name: os.environ[name] for name in BUILDERS if name in os.environ},
        **variables,
    }
    for step in (*BEFORE, *AFTER):
        if step in skip:
            continue
        local = ["--local"] if step == "tag_release" else []
        done = line.run(step, *local, "--chart", "common", *more, **environment)
        if done.returncode:
            return Ended(done.returncode, done.stderr, published(line))
    return Ended(0, "", published(line))


def published(line: Line) -> dict[str, bytes]:
    """The archives in the production channel by file name."""
    return {place.name: place.read_bytes() for place in (line.folder / "charts").glob("*.tgz")}


def refused(ended: Ended, code: int, words: str) -> str:
    """What is wrong with a release that must end with this code and these words, and must publish
    nothing.
    """
    if ended.published:
        return f"published {sorted(ended.published)}"
    if ended.code != code or words not in ended.words:
        return f"exit {ended.code}, not {code} with {words!r}: {ended.words.strip()[-500:]}"
    return ""


def passed(ended: Ended) -> str:
    """What is wrong with a release that must pass."""
    if ended.code or not ended.published:
        return f"exit {ended.code}: {ended.words.strip()[-500:]}"
    return ""


def with_image(line: Line, entry: str = IMAGES, more: str = "") -> None:
    """Give the line's chart an image; its registry runs as long as the case."""
    pipeline = PIPELINE.format(folder=line.folder, more=f", images: {line.host}/production")
    pipeline = pipeline.replace("  - path: charts/*\n", f"  - path: charts/*\n    {MAPPING}\n")
    pipeline = pipeline.replace('snapshots"', f'snapshots", images: {line.host}/snap')
    line.repo.put("pipeline.yaml", f"{pipeline}{entry}{more}")
    line.repo.put(".gitignore", ".env\n*.jar\n.pipeline\n*~\n")
    line.repo.put("charts/common/values.yaml", "image: {repository: x, tag: none}\n")
    line.repo.put("app/Dockerfile", "FROM scratch\nCOPY . /app/\n")
    line.repo.put("app/hello", "hello\n")
    line.repo.commit()


def with_tests(line: Line, settings: str) -> None:
    text = (line.repo.root / "pipeline.yaml").read_text()
    line.repo.put("pipeline.yaml", f"{text}tests: {{{settings}}}\n")
    line.repo.commit()


def image_files(line: Line) -> set[str]:
    """What the released image holds."""
    api = Registry(line.host, plain_http=True)
    head = api.head("production/app", "1.0.0")
    assert head is not None
    return set(images.members(api, "production/app", head.digest))


# -- must not happen --------------------------------------------------------------------------------------------------


def changed_after_the_test(line: Line) -> str:
    line.tested()
    line.repo.put("charts/common/templates/map.yaml", MAP.replace("hello", "good day"))
    line.repo.commit()
    return refused(release(line, skip=BEFORE[1:]), 4, "the nearest tested content")


def local_edit(line: Line) -> str:
    line.repo.put("charts/common/templates/map.yaml", MAP.replace("hello", "good day"))
    return refused(release(line), 4, "local modifications: charts/common/templates/map.yaml")


def untracked_template(line: Line) -> str:
    line.repo.put("charts/common/templates/extra.yaml", MAP.replace("Name }}", "Name }}-x"))
    return refused(release(line), 4, "local modifications: charts/common/templates/extra.yaml")


def hidden_edit(line: Line) -> str:
    line.repo.git("update-index", "--assume-unchanged", "charts/common/templates/map.yaml")
    line.repo.put("charts/common/templates/map.yaml", MAP.replace("hello", "good day"))
    ended = release(line)
    if wrong := passed(ended):
        return wrong
    [archive] = ended.published.values()
    return (
        ""
        if unpack(archive)["templates/map.yaml"] == MAP.encode()
        else "the hidden edit was released"
    )


def ignored_file_in_the_image(line: Line) -> str:
    with_image(line)
    line.repo.put("app/.env", "TOKEN=secret\n")
    ended = release(line)
    return passed(ended) or (
        "" if "app/.env" not in image_files(line) else "a laptop's .env was released"
    )


def untracked_file_in_the_context(line: Line) -> str:
    with_image(line)
    line.repo.put("app/debug", "left behind\n")
    return refused(release(line), 4, "local modifications: app/debug")


def overlay_that_changes_an_image(line: Line) -> str:
    with_image(line)
    line.repo.put("other/Dockerfile", "FROM scratch\nCOPY Dockerfile /\n")
    line.repo.commit()
    overlay = line.folder / "overlay.yaml"
    overlay.write_text("images: {app: {context: other}}\n")
    return refused(release(line, "--config", str(overlay)), 4, f"local modifications: {overlay}")


def overlay_that_changes_values(line: Line) -> str:
    with_image(line)
    overlay = line.folder / "overlay.yaml"
    overlay.write_text("charts: [{path: charts/*, images: {app: {image.tag: '{digest}'}}}]\n")
    return refused(release(line, "--config", str(overlay)), 4, f"local modifications: {overlay}")


def tag_build_of_modifications(line: Line) -> str:
    with_image(line)
    line.repo.put("app/hello", "another\n")
    line.repo.git("tag", "common-1.0.0")
    ci = {
        "GITLAB_CI": "true",
        "CI_COMMIT_TAG": "common-1.0.0",
        "CI_PIPELINE_ID": "7",
        "CI_JOB_ID": "8",
    }
    return refused(release(line, **ci), 4, "local modifications: app/hello")


def two_images_with_one_key(line: Line) -> str:
    with_image(line, "images: {app: {context: app}, other: {context: app}}\n")
    text = (line.repo.root / "pipeline.yaml").read_text()
    other = MAPPING.replace("{app: ", "{other: {image.tag: '{tag}'}, app: ")
    line.repo.put("pipeline.yaml", text.replace(MAPPING, other))
    line.repo.commit()
    return refused(release(line), 2, "the images other and app both set image.tag")


def linked_context(line: Line) -> str:
    with_image(line)
    outside = line.folder / "outside"
    outside.mkdir()
    (outside / "Dockerfile").write_text("FROM scratch\nCOPY Dockerfile /\n")
    shutil.rmtree(line.repo.root / "app")
    (line.repo.root / "app").symlink_to(outside)
    line.repo.commit()
    return refused(release(line), 2, "app")


def pointer_of_lfs(line: Line) -> str:
    line.repo.put("charts/common/files/x.json", "{}\n" * 99)
    line.repo.git("lfs", "install", "--local")
    line.repo.put(".gitattributes", "*.json filter=lfs diff=lfs merge=lfs -text\n")
    line.repo.commit()
    line.repo.git("lfs", "uninstall", "--local")
    line.repo.git("rm", "-q", ".gitattributes")
    (line.repo.root / "charts/common/files/x.json").unlink()
    line.repo.git("checkout", "charts/common/files/x.json")
    line.repo.commit()
    shutil.rmtree(line.repo.root / ".git/lfs")
    return refused(release(line), 7, "charts/common/files/x.json: the Git LFS object")


def generated_file_that_the_source_tracks(line: Line) -> str:
    with_image(line, "images: {app: {context: app, generated: {hello: [Dockerfile]}}}\n")
    return refused(release(line), 2, "hello is in the source")


def tag_on_other_content(line: Line) -> str:
    line.repo.git("tag", "common-1.0.0")
    line.repo.put("charts/common/templates/map.yaml", MAP.replace("hello", "good day"))
    line.repo.commit()
    return refused(release(line), 5, "a tag is never moved")


def failed_gate(line: Line) -> str:
    line.configure(", requires: [check, integration_test, scan]")
    line.repo.commit()
    line.run("record", "--name", "scan", "--subject", "common", "--", "false")
    return refused(release(line), 4, "scan")


def state_that_the_source_stores(line: Line) -> str:
    line.tested()
    line.repo.git("add", "-f", ".pipeline/state.jsonl")
    line.repo.commit()
    return refused(release(line), 2, "the source tracks this state file")


def records_of_another_build(line: Line) -> str:
    line.tested()
    line.repo.git("tag", "common-1.0.0")
    ci = {
        "GITLAB_CI": "true",
        "CI_COMMIT_TAG": "common-1.0.0",
        "CI_PIPELINE_ID": "7",
        "CI_JOB_ID": "8",
    }
    return refused(release(line, **ci), 4, "are not of this build")


def withdrawn(line: Line) -> str:
    text = (line.repo.root / "pipeline.yaml").read_text()
    line.repo.put("pipeline.yaml", f"{text}release: {{withdrawn: [common-1.0.0]}}\n")
    line.repo.commit()
    return refused(release(line), 5, "is withdrawn")


def argument_that_moves_the_release(line: Line) -> str:
    with_tests(line, "helm_args: [--namespace, default]")
    return refused(release(line), 2, "tests.helm_args may not have '--namespace'")


def version_asked_for_under_an_argument(line: Line) -> str:
    odd = (
        '{{ if .Values.odd }}{{ if contains "-0." .Chart.Version }}  odd: "yes"{{ end }}{{ end }}\n'
    )
    line.repo.put("charts/common/templates/map.yaml", MAP + odd)
    with_tests(line, "helm_args: [--set, odd=true]")
    return refused(release(line), 8, "templates/map.yaml")


def overlay_that_a_review_brings(line: Line) -> str:
    line.repo.put(
        "ci/more.yaml", f'channels: {{snapshot: {{charts: "file://{line.folder}/charts"}}}}\n'
    )
    line.repo.commit()
    return refused(
        release(line, "--config", "ci/more.yaml", **REVIEW),
        2,
        "stands in an overlay that this review can",
    )


def secret_that_a_review_asks_for(line: Line) -> str:
    with_image(line, "images: {app: {context: app, secrets: [agent-token]}}\n")
    line.repo.put("app/Dockerfile", "FROM scratch\nCOPY . /app/\n# another\n")
    line.repo.commit()
    return refused(
        release(line, AGENT_TOKEN="t0ken-of-the-agent", **REVIEW),
        2,
        "the secret agent-token is not decl",
    )


# -- neighbours that pass ---------------------------------------------------------------------------------------------


def comment_in_ignored_values(line: Line) -> str:
    line.repo.put("charts/common/.helmignore", "ci/\n")
    line.repo.put("charts/common/ci/ha-values.yaml", "a: 1\n")
    line.repo.commit()
    if wrong := passed(release(line)):
        return wrong
    line.repo.put("charts/common/ci/ha-values.yaml", "a: 1  # why\n")
    line.repo.commit()
    return passed(release(line))


def longer_timeout(line: Line) -> str:
    if wrong := passed(release(line)):
        return wrong
    text = (line.repo.root / "pipeline.yaml").read_text()
    line.repo.put("pipeline.yaml", text.replace("tests: {", "tests: {timeout: 9m, "))
    line.repo.commit()
    return passed(release(line, skip=BEFORE))


def entries_written_out(line: Line) -> str:
    if wrong := passed(release(line)):
        return wrong
    text = (line.repo.root / "pipeline.yaml").read_text()
    line.repo.put("pipeline.yaml", text.replace("path: charts/*", "path: charts/common"))
    line.repo.commit()
    return passed(release(line, skip=BEFORE))


def ignored_editor_file(line: Line) -> str:
    with_image(line)
    line.repo.put("app/hello~", "backup\n")
    line.repo.put("charts/common/values.yaml~", "backup\n")
    return passed(release(line))


def generated_jar(line: Line) -> str:
    with_image(line, "images: {app: {context: app, generated: {'*.jar': [hello]}}}\n")
    line.repo.put("app/app.jar", "made by an earlier stage")
    release(line, skip=AFTER)
    line.repo.put("app/app.jar", "made again, with another date in it")
    return passed(release(line)) or (
        "" if "app/app.jar" in image_files(line) else "the jar is not in the image"
    )


def smudged_file_of_lfs(line: Line) -> str:
    line.repo.git("lfs", "install", "--local")
    line.repo.put(".gitattributes", "*.json filter=lfs diff=lfs merge=lfs -text\n")
    line.repo.put("charts/common/files/x.json", "{}\n" * 99)
    line.repo.commit()
    ended = release(line)
    if wrong := passed(ended):
        return wrong
    [archive] = ended.published.values()
    return "" if unpack(archive)["files/x.json"] == b"{}\n" * 99 else "the pointer was released"


def crlf_checkout(line: Line) -> str:
    line.repo.put(".gitattributes", "*.yaml text eol=crlf\n")
    line.repo.commit()
    place = line.repo.root / "charts/common/templates/map.yaml"
    place.unlink()
    line.repo.git("checkout", "charts")
    ended = release(line)
    if wrong := passed(ended):
        return wrong
    [archive] = ended.published.values()
    return (
        ""
        if unpack(archive)["templates/map.yaml"] == MAP.encode()
        else "line ends of the checkout were released"
    )


def overlay_that_names_channels(line: Line) -> str:
    overlay = line.folder / "overlay.yaml"
    overlay.write_text(f'channels: {{production: {{charts: "file://{line.folder}/charts"}}}}\n')
    return passed(release(line, "--config", str(overlay)))


def amended_message(line: Line) -> str:
    line.tested()
    line.repo.git(
        "commit", "-q", "--amend", "--allow-empty", "-m", "the same files, another message"
    )
    return passed(release(line, skip=BEFORE))


def tag_made_by_hand(line: Line) -> str:
    line.tested()
    line.repo.git("tag", "common-1.0.0")
    done = line.run("promote", "--tag", "common-1.0.0")
    return passed(Ended(done.returncode, done.stderr, published(line)))


def committed_after_a_local_test(line: Line) -> str:
    with_image(line)
    line.repo.put("app/hello", "another\n")
    release(line, skip=AFTER)
    line.repo.commit()
    return passed(release(line))


def values_for_helm(line: Line) -> str:
    line.repo.put("ci/more.yaml", "more: true\n")
    with_tests(line, "helm_args: [--values, ci/more.yaml, --set-string, a=1]")
    return passed(release(line))


def next_version_after_a_release(line: Line) -> str:
    if wrong := passed(release(line)):
        return wrong
    line.repo.put("charts/common/Chart.yaml", CHART.format(version="1.0.1"))
    line.repo.commit()
    ended = release(line)
    return passed(ended) or (
        "" if len(ended.published) == 2 else f"published {sorted(ended.published)}"
    )


MUST_NOT = (
    Case("content changed after its test", changed_after_the_test),
    Case("a template edited and not committed", local_edit),
    Case("a template that is not tracked", untracked_template),
    Case("an edit hidden by assume-unchanged", hidden_edit),
    Case("an ignored .env in the context of an image", ignored_file_in_the_image),
    Case("an untracked file in the context of an image", untracked_file_in_the_context),
    Case("an overlay with another context", overlay_that_changes_an_image),
    Case("an overlay with other values keys", overlay_that_changes_values),
    Case("a tag build with a modified context", tag_build_of_modifications),
    Case("two images with one values key", two_images_with_one_key),
    Case("a context that is a link out of the source", linked_context),
    Case("a pointer of Git LFS", pointer_of_lfs),
    Case("a generated file that the source tracks", generated_file_that_the_source_tracks),
    Case("a tag on other content", tag_on_other_content),
    Case("a required program that failed", failed_gate),
    Case("a state file that the source stores", state_that_the_source_stores),
    Case("what another build left in the workspace of a tag build", records_of_another_build),
    Case("a withdrawn version", withdrawn),
    Case("an argument that moves the release elsewhere", argument_that_moves_the_release),
    Case(
        "a template that asks for the version under an argument for helm",
        version_asked_for_under_an_argument,
    ),
    Case("an overlay with channels that a review brings", overlay_that_a_review_brings),
    Case(
        "a variable of the agent that a review asks for as a secret", secret_that_a_review_asks_for
    ),
)
MAY = (
    Case("a comment in values that .helmignore leaves out", comment_in_ignored_values),
    Case("a longer timeout of tests", longer_timeout),
    Case("a glob written out", entries_written_out),
    Case("an editor's ignored backup", ignored_editor_file),
    Case("a generated jar, made again with another date", generated_jar),
    Case("a smudged file of Git LFS", smudged_file_of_lfs),
    Case("a checkout with CRLF line ends", crlf_checkout),
    Case("an overlay that only names channels", overlay_that_names_channels),
    Case("an amended commit message", amended_message),
    Case("a tag made by hand", tag_made_by_hand),
    Case("modifications that are committed later", committed_after_a_local_test),
    Case("values for helm from a file that the source stores", values_for_helm),
    Case("the next version", next_version_after_a_release),
)


def refused_or_harmless(_worlds: Sequence[World], settings: Settings) -> list[Figure]:
    """Two figures: releases that must not happen, and neighbours that must."""
    figures = []
    for name, cases, what in (
        ("X1", MUST_NOT, "releases that must not happen: refused by name, or as the source has it"),
        ("X2", MAY, "their legitimate neighbours: released"),
    ):
        chosen = (
            cases
            if settings.full
            else random.Random(settings.seed).sample(cases, min(SAMPLED, len(cases)))
        )

        def run(_number: int, case: Case) -> str:
            with tempfile.TemporaryDirectory(prefix="release-") as folder:
                wrong = on_line(case, Path(folder))
            return f"{case.name}: {wrong}" if wrong else ""

        wrong = spread(chosen, settings.workers, run)
        figures.append(counted(name, f"{what} ({len(chosen)} of {len(cases)})", chosen, wrong))
    return figures


def on_line(case: Case, folder: Path) -> str:
    """Run a case on a line of its own, with a registry."""
    with registry(folder / "registry") as running:
        line = Line(folder)
        line.host = running.host
        try:
            return case.run(line)
        except (AssertionError, subprocess.CalledProcessError) as error:
            return f"{type(error).__name__}: {error}"[-600:]
