"""X1, X2: what is built and released is what the source stores, and only that asks for a version."""

from __future__ import annotations

import shutil
from functools import partial

from pipeline_steps.charts.archive import unpack
from tests.faults.release_runs import (
    AFTER,
    BEFORE,
    GIT,
    MAPPING,
    TAG_BUILD,
    Case,
    image_files,
    passed,
    refused,
    release,
    with_image,
)
from tests.support.gits import Repo
from tests.support.release_line import CHART, MAP, Line

VERSION_ASKED = '{{ if contains "-0." .Chart.Version }}  odd: "yes"{{ end }}\n'


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
    return refused(release(line), 4, "local modifications: charts/common/templates/map.yaml")


def hidden_edit_of_the_configuration(line: Line) -> str:
    with_image(line)
    line.repo.put("other/Dockerfile", "FROM scratch\nCOPY Dockerfile /\n")
    line.repo.commit()
    line.repo.git("update-index", "--assume-unchanged", "pipeline.yaml")
    text = (line.repo.root / "pipeline.yaml").read_text()
    line.repo.put("pipeline.yaml", text.replace("context: app", "context: other"))
    return refused(release(line), 4, "local modifications: pipeline.yaml")


def edit_that_asks_for_no_test(line: Line, section: str) -> str:
    """It changes no content, and the tests would have to pass on a cluster."""
    text = (line.repo.root / "pipeline.yaml").read_text()
    none = next(each for each in text.splitlines(keepends=True) if "none:" in each)
    line.repo.put("pipeline.yaml", text.replace(none, ""))
    line.repo.commit()
    edited = text if section == "charts" else f"{text.replace(none, '')}{none.strip()}\n"
    line.repo.put("pipeline.yaml", edited)
    return refused(release(line), 4, "local modifications: pipeline.yaml")


def repository_in_the_context(line: Line) -> str:
    """What git stores of a submodule is the name of a commit, which says nothing of edits in it."""
    with_image(line)
    library = Repo(line.folder / "library", line.repo.config)
    library.put("lib.txt", "of another repository\n")
    library.commit()
    add = ("submodule", "add", "-q", str(library.root), "app/lib")
    line.repo.git("-c", "protocol.file.allow=always", *add)
    line.repo.commit()
    return refused(release(line), 2, "app/lib is a git repository of its own (a submodule)")


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
    return refused(release(line, **TAG_BUILD), 4, "local modifications: app/hello")


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


def template_that_asks_for_the_version(line: Line) -> str:
    line.repo.put("charts/common/templates/map.yaml", MAP + VERSION_ASKED)
    line.repo.commit()
    return refused(release(line), 8, "templates/map.yaml")


def hidden_edit_in_the_image(line: Line, bit: str = "--assume-unchanged") -> str:
    with_image(line)
    line.repo.git("update-index", bit, "app/hello")
    line.repo.put("app/hello", "an edit that git does not show\n")
    return refused(release(line), 4, "local modifications: app/hello")


def edit_hidden_by_a_sparse_checkout(line: Line) -> str:
    return hidden_edit_in_the_image(line, "--skip-worktree")


def linked_dockerfile(line: Line) -> str:
    with_image(line)
    outside = line.folder / "Dockerfile"
    outside.write_text("FROM scratch\nCOPY Dockerfile /\n")
    (line.repo.root / "app/Dockerfile").unlink()
    (line.repo.root / "app/Dockerfile").symlink_to(outside)
    line.repo.commit()
    return refused(release(line), 2, "Dockerfile")


def linked_dockerignore(line: Line) -> str:
    """The text of the link was read for the rules, so that nothing was left out."""
    with_image(line)
    line.repo.put("app/left-out", ".dockerignore\nhello\n")
    (line.repo.root / "app/.dockerignore").symlink_to("left-out")
    line.repo.commit()
    return refused(release(line), 2, "app/.dockerignore is a symbolic link")


def generated_file_that_nobody_made(line: Line) -> str:
    with_image(line, "images: {app: {context: app, generated: {'*.jar': [hello]}}}\n")
    return refused(release(line), 2, "no file fits '*.jar'")


def comment_in_ignored_values(line: Line) -> str:
    line.repo.put("charts/common/.helmignore", "ci/\n")
    line.repo.put("charts/common/ci/ha-values.yaml", "a: 1\n")
    line.repo.commit()
    if wrong := passed(release(line)):
        return wrong
    line.repo.put("charts/common/ci/ha-values.yaml", "a: 1  # why\n")
    line.repo.commit()
    return passed(release(line))


def still_released(line: Line, before: str, after: str) -> str:
    """What goes wrong when pipeline.yaml is changed in a way that makes no test another one."""
    if wrong := passed(release(line)):
        return wrong
    text = (line.repo.root / "pipeline.yaml").read_text()
    line.repo.put("pipeline.yaml", text.replace(before, after))
    line.repo.commit()
    return passed(release(line, skip=BEFORE))


def longer_timeout(line: Line) -> str:
    return still_released(line, "tests: {", "tests: {timeout: 9m, ")


def entries_written_out(line: Line) -> str:
    return still_released(line, "path: charts/*", "path: charts/common")


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
    overlay.write_text(f'channels: {{production: {{charts: "{line.base}/charts"}}}}\n')
    return passed(release(line, "--config", str(overlay)))


def sparse_checkout(line: Line) -> str:
    with_image(line)
    line.repo.git(
        "sparse-checkout", "set", "--no-cone", "/pipeline.yaml", "/charts/common/Chart.yaml"
    )
    if (line.repo.root / "app/hello").exists():
        return "the checkout is not sparse"
    ended = release(line)
    return passed(ended) or (
        "" if "app/hello" in image_files(line) else "what was left out is not in the image"
    )


def amended_message(line: Line) -> str:
    line.tested()
    line.repo.git(
        "commit", "-q", "--amend", "--allow-empty", "-m", "the same files, another message"
    )
    return passed(release(line, skip=BEFORE))


def committed_after_a_local_test(line: Line) -> str:
    with_image(line)
    line.repo.put("app/hello", "another\n")
    release(line, skip=AFTER)
    line.repo.commit()
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


def templates_by_chance(line: Line) -> str:
    by_chance = (
        "  password: {{ randAlphaNum 20 | quote }}\n  id: {{ uuidv4 | quote }}\n"
        "  at: {{ now | quote }}\n"
        '{{ $ca := genCA "x" 1 }}  ca: {{ $ca.Cert | b64enc | quote }}\n'
    )
    text = MAP.replace("data: {greeting: hello}\n", f"data:\n{by_chance}")
    line.repo.put("charts/common/templates/map.yaml", text)
    line.repo.commit()
    return passed(release(line))


def keys_of_a_subchart_and_its_alias(line: Line) -> str:
    with_image(line)
    line.repo.put("charts/sub/Chart.yaml", "apiVersion: v2\nname: sub\nversion: 1.0.0\n")
    line.repo.put(
        "charts/sub/templates/map.yaml", MAP.replace("Name }}", "Name }}-{{ .Chart.Name }}")
    )
    line.repo.put("charts/sub/values.yaml", "image: {repository: of-sub, tag: none}\n")
    sub = "{name: sub, version: 1.0.0, repository: 'file://../sub'"
    chart = CHART.format(version="1.0.0") + f"dependencies: [{sub}}}, {sub}, alias: second}}]\n"
    line.repo.put("charts/common/Chart.yaml", chart)
    values = "image: {repository: x, tag: none}\nsecond: {image: {pullPolicy: Always}}\n"
    line.repo.put("charts/common/values.yaml", values)
    line.repo.commit()
    ended = release(line)
    if wrong := passed(ended):
        return wrong
    [archive] = ended.published.values()
    files = unpack(archive)
    held = [name for name in ("values.yaml", "charts/sub/values.yaml")
            if b"production/app" not in files[name]]  # fmt: skip
    return f"no reference of production in {held}" if held else ""


def modification_that_was_undone(line: Line) -> str:
    with_image(line)
    release(line, skip=AFTER)
    line.repo.put("app/hello", "another\n")
    release(line, skip=AFTER)
    line.repo.put("app/hello", "hello\n")
    before = len(line.records("build_image"))
    ended = release(line)
    if wrong := passed(ended):
        return wrong
    built = len(line.records("build_image")) - before
    return f"the image was built again: {built} records" if built else ""


MUST_NOT = (
    Case("content changed after its test", changed_after_the_test),
    Case("a template edited and not committed", local_edit),
    Case("a template that is not tracked", untracked_template),
    Case("an edit hidden by assume-unchanged", hidden_edit, GIT),
    Case("an edit of pipeline.yaml that is hidden", hidden_edit_of_the_configuration, GIT),
    *(
        Case(
            f"an edit of {section} in pipeline.yaml that asks for no test",
            partial(edit_that_asks_for_no_test, section=section),
        )
        for section in ("charts", "tests")
    ),
    Case("a submodule in the context of an image", repository_in_the_context, GIT),
    Case("an ignored .env in the context of an image", ignored_file_in_the_image),
    Case("an untracked file in the context of an image", untracked_file_in_the_context),
    Case("an overlay with another context", overlay_that_changes_an_image),
    Case("an overlay with other values keys", overlay_that_changes_values),
    Case("a tag build with a modified context", tag_build_of_modifications, GIT),
    Case("two images with one values key", two_images_with_one_key),
    Case("a context that is a link out of the source", linked_context),
    Case("a pointer of Git LFS", pointer_of_lfs, GIT),
    Case("a generated file that the source tracks", generated_file_that_the_source_tracks),
    Case("a generated file that no stage made", generated_file_that_nobody_made),
    Case("a template that asks for the version", template_that_asks_for_the_version),
    Case("an edit in a context hidden by assume-unchanged", hidden_edit_in_the_image, GIT),
    Case("an edit hidden by a sparse checkout", edit_hidden_by_a_sparse_checkout, GIT),
    Case("a Dockerfile that is a link out of the source", linked_dockerfile),
    Case("a .dockerignore that is a link", linked_dockerignore),
)
MAY = (
    Case("a comment in values that .helmignore leaves out", comment_in_ignored_values),
    Case("a longer timeout of tests", longer_timeout),
    Case("a glob written out", entries_written_out),
    Case("an editor's ignored backup", ignored_editor_file),
    Case("a generated jar, made again with another date", generated_jar),
    Case("a smudged file of Git LFS", smudged_file_of_lfs, GIT),
    Case("a checkout with CRLF line ends", crlf_checkout, GIT),
    Case("an overlay that only names channels", overlay_that_names_channels),
    Case("a sparse checkout without the files of chart and image", sparse_checkout, GIT),
    Case("an amended commit message", amended_message, GIT),
    Case("modifications that are committed later", committed_after_a_local_test),
    Case("modifications that were undone", modification_that_was_undone),
    Case("the next version", next_version_after_a_release),
    Case("passwords and certificates by chance", templates_by_chance),
    Case("values keys of an umbrella, a subchart and its alias", keys_of_a_subchart_and_its_alias),
)
