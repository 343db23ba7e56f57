"""How the cases of X1 and X2 run: one release on the command line, and how it ended."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from tarfile import TarInfo
from typing import NamedTuple

from pipeline_steps.oci.registry import Registry
from pipeline_steps.repositories.oci import OciRepository
from tests.support import images
from tests.support.bazaars import Branch
from tests.support.gits import Repo
from tests.support.release_line import PIPELINE, Line
from tests.support.source_systems import SYSTEMS

#: Variables by which builders are found.
BUILDERS = ("DOCKER_HOST", "DOCKER_CONFIG", "BUILDX_CONFIG", "BUILDX_BUILDER")
BEFORE, AFTER = ("check", "build_image", "snapshot", "integration_test"), ("tag_release", "promote")
TAG_BUILD = {
    "GITLAB_CI": "true",
    "CI_COMMIT_TAG": "common-1.0.0",
    "CI_PIPELINE_ID": "7",
    "CI_JOB_ID": "8",
}
REVIEW = {
    "GITLAB_CI": "true",
    "CI_MERGE_REQUEST_IID": "4",
    "CI_MERGE_REQUEST_TARGET_BRANCH_NAME": "main",
}
#: What only git has, or CI of it: hidden edits, Git LFS, builds of tags and of merge requests.
GIT = ("git",)
IMAGES = "images: {app: {context: app}}\n"
MAPPING = "images: {app: {image.repository: '{repository}', image.tag: '{tag}'}}"


class Case(NamedTuple):
    """name: what is tried. run: tries it on a fresh line; what is wrong, "" when all is as it has
    to be. systems: of the source, in which it can be tried.
    """

    name: str
    run: Callable[[Line], str]
    systems: tuple[str, ...] = tuple(SYSTEMS)


class Ended(NamedTuple):
    """How a release ended: code and words of the step that ended it, and the published archives by
    name.
    """

    code: int
    words: str
    published: dict[str, bytes]


def release(line: Line, *more: str, skip: Sequence[str] = (), **variables: str) -> Ended:
    """Run the whole workflow, up to the first step that is refused. more: options for every step."""
    environment = {**builders(), **variables}
    for step in (*BEFORE, *AFTER):
        if step in skip:
            continue
        # Subversion has no tag that is not on its server.
        local = ["--local"] if step == "tag_release" and not line.repo.tags_on_server else []
        done = line.run(step, *local, "--chart", line.chart, *more, **environment)
        if done.returncode:
            return Ended(done.returncode, done.stderr, published(line))
    return Ended(0, "", published(line))


def builders() -> dict[str, str]:
    """The variables by which this machine's builders are found."""
    return {name: os.environ[name] for name in BUILDERS if name in os.environ}


def published(line: Line) -> dict[str, bytes]:
    """The archives in the production channel by file name."""
    if line.base.startswith("oci://"):
        repository = OciRepository(f"{line.base}/charts", {})
        versions = repository.versions(line.chart)
        charts = [repository.find(line.chart, version) for version in versions]
        return {chart.archive.file_name: chart.archive.tgz for chart in charts if chart}
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
    pipeline = PIPELINE.format(base=line.base, more=f", images: {line.host}/production")
    pipeline = pipeline.replace("  - path: charts/*\n", f"  - path: charts/*\n    {MAPPING}\n")
    pipeline = pipeline.replace('snapshots"', f'snapshots", images: {line.host}/snap')
    line.repo.put("pipeline.yaml", f"{pipeline}{entry}{more}")
    for pattern in (".env", "*.jar", ".pipeline", "*~"):
        line.repo.ignore(pattern)
    line.repo.put("charts/common/values.yaml", "image: {repository: x, tag: none}\n")
    line.repo.put("app/Dockerfile", "FROM scratch\nCOPY . /app/\n")
    line.repo.put("app/hello", "hello\n")
    line.repo.commit()


def with_tests(line: Line, settings: str) -> None:
    text = (line.repo.root / "pipeline.yaml").read_text()
    line.repo.put("pipeline.yaml", f"{text}tests: {{{settings}}}\n")
    line.repo.commit()


def image_files(line: Line) -> dict[str, TarInfo]:
    """What the released image holds, by path."""
    api = Registry(line.host, plain_http=True)
    head = api.head("production/app", "1.0.0")
    assert head is not None
    return images.members(api, "production/app", head.digest)


def add_ignored(line: Line, path: str) -> None:
    """Have the next commit store a file that is ignored."""
    if isinstance(line.repo, Repo):
        line.repo.git("add", "-f", path)
    elif isinstance(line.repo, Branch):
        line.repo.brz("add", "-q", path)
    else:
        line.repo.svn("add", "-q", "--force", "--no-ignore", "--parents", path)
