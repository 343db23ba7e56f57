"""Whatever comes from outside is read or refused by name, quickly: damaged archives, indexes,
records and manifests.

Each reader gets random bytes, and good input that was cut, joined and overwritten at random. FUZZ=N
tries N inputs of each instead of a few; what fails is kept by hypothesis and tried first the next
time. Each reader is fuzzed in processes of its own, whose memory is measured.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import os
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline_steps.auth.token import Challenge
from pipeline_steps.charts import archive, paths, read, values
from pipeline_steps.charts import ignore as helmignore
from pipeline_steps.images import dockerfile, image_layers, shell_words
from pipeline_steps.images import ignore as dockerignore
from pipeline_steps.oci import registry
from pipeline_steps.oci.manifest import OCI_INDEX, OCI_MANIFEST, Manifest
from pipeline_steps.repositories import chartmuseum, index_rows
from pipeline_steps.repositories.github_assets import Release
from pipeline_steps.repositories.index import Index
from pipeline_steps.reviews import gerrit_changes, gitlab_merges
from pipeline_steps.reviews import gitea as gitea_reviews
from pipeline_steps.reviews import gitlab as gitlab_reviews
from pipeline_steps.services import gerrit, gitea, github, gitlab, rest
from pipeline_steps.sources import (
    bzr_program,
    git,
    git_lfs,
    git_objects,
    git_program,
    git_proposal,
    git_tree,
    svn,
    svn_dump,
    svn_externals,
    svn_normal_form,
    svn_program,
    svn_repository,
    svn_tags,
    svn_tree,
)
from pipeline_steps.sources.proposal import Target
from pipeline_steps.sources.source import Tag
from pipeline_steps.state import record
from pipeline_steps.toolbox import clock, http, process, redact
from pipeline_steps.toolbox.errors import PipelineError
from tests.support.charts import packed
from tests.support.examples import FULL

INPUTS = int(os.environ.get("FUZZ") or (20_000 if FULL else 800))
#: Inputs of one process: hypothesis remembers them all, which is no memory of the reader.
AT_ONCE = 1000
SECONDS = 2.0
MOST_MIB = 256
ROOT = Path(__file__).resolve().parents[2]
CHART = (
    b"apiVersion: v2\nname: a\nversion: 1.0.0\nmaintainers: [{name: b}]\nannotations: {c: 'true'}\n"
    b"dependencies:\n- {name: d, version: 1.0.0, repository: 'https://example.com', alias: e, tags: [t]}\n"
)
INDEX = b"""apiVersion: v1
entries:
  a:
  - apiVersion: v2
    created: "2026-01-02T03:04:05Z"
    description: >-
      folded
    digest: 0000000000000000000000000000000000000000000000000000000000000000
    name: a
    urls: [a-1.0.0.tgz]
    version: 1.0.0
  b: []
generated: "2026-01-02T03:04:05Z"
"""
RECORD = record.encode(
    {"step": "check", "subject": "a", "key": f"sha256:{'0' * 64}", "content": f"sha256:{'1' * 64}", "result": "passed",
     "parameters": {"a": [1]},
     "started": "2026-01-02T03:04:05.000Z", "finished": "2026-01-02T03:04:06.000Z", "outputs": {"x": "y"}}
)  # fmt: skip
PART = {"mediaType": OCI_MANIFEST, "digest": f"sha256:{'0' * 64}", "size": 9}
MANIFEST = json.dumps(
    {"schemaVersion": 2, "config": PART, "layers": [PART], "manifests": [PART]}
).encode()


def manifest(data: bytes) -> None:
    for kind in (OCI_INDEX, OCI_MANIFEST):
        found = Manifest(data, kind, "sha256:0")
        found.children, found.blobs, found.layers, found.config  # noqa: B018


def answers(data: bytes) -> None:
    """What registries and servers answer, each taken for the answer of every one."""
    answer = http.Response("GET", "https://example.com/", 404, {}, data)
    each(
        lambda: registry._names(answer, "tags"),
        lambda: http.error_for_status(answer, registry.error_message),
        lambda: github.error_for(answer),
        lambda: github.decode(answer, list[Release]),
        lambda: chartmuseum._error_text(answer),
        lambda: registry.error_codes(data),
        lambda: gerrit.words(answer),
        lambda: gitea.error_for(answer),
        lambda: gitlab.error_for(answer),
        lambda: gitlab.temporary_error(answer._replace(status=429)),
    )


def each(*readings: Callable[[], object]) -> None:
    """Show what each of them reads, as messages do."""
    for reading in readings:
        with contextlib.suppress(PipelineError):
            redact.printable(str(reading())).encode()


def gerrit_change(data: bytes) -> None:
    """A change, and who voted on what."""
    body = b")]}'\n" + data
    answer = http.Response("GET", "https://example.com/", 200, {}, body)
    each(lambda: gerrit.words(answer))
    with contextlib.suppress(PipelineError):
        change = gerrit.decode(answer, gerrit_changes.Change)
        each(
            lambda: change.head,
            lambda: change.submitted_as,
            lambda: list(gerrit_changes.cast_votes(change)),
            lambda: [gerrit_changes.text_of(message) for message in change.messages],
            lambda: [(label.lowest, label.highest) for label in change.labels.values()],
            lambda: [gerrit_changes.rfc3339(message.date) for message in change.messages],
        )


def forge_reviews(data: bytes) -> None:
    """What Gitea and GitLab tell of a review, and who approved it."""
    answer = http.Response("GET", "https://example.com/", 200, {}, data)
    each(
        lambda: gitea.decode(answer, gitea_reviews._Pull),
        lambda: gitea_reviews._vote("a", gitea.decode(answer, gitea_reviews._Opinion)),
        lambda: gitea_reviews._push_of(gitea.decode(answer, gitea_reviews._Event)),
        lambda: gitlab.decode(answer, gitlab_merges.MergeRequest).merged_revision,
        lambda: gitlab.decode(answer, gitlab_reviews._Approvals),
        lambda: clock.rfc3339_of(gitlab.decode(answer, gitlab_reviews._Note).created_at),
    )


def headers(data: bytes) -> None:
    text = data.decode("latin-1")
    Challenge.parse(text)
    http.retry_after({"retry-after": text, "date": text})
    for name, value in (("reset", text), ("date", text)):
        limit = {"reset": "1767225607", "date": "Thu, 01 Jan 2026 00:00:00 GMT", name: value}
        assert rest.seconds_until_reset(limit, "reset") >= 0


def stored(data: bytes) -> None:
    """A file or a property of Subversion that says what is stored elsewhere, or in another form."""
    git_lfs.pointer(data)
    text = data.decode("latin-1")
    for external in svn_externals.parse(text):
        svn_externals.path_in_repository(external.url, "trunk", "svn://h/r")
    svn_normal_form.normal_form(data, {"svn:keywords": text, "svn:eol-style": "native"})


def printed_by_git(data: bytes) -> None:
    """What git prints, with NEXT between answers, each taken for the one to every question. No git
    runs: starting it would take most of the time, and what it prints is the bytes that are tried.
    """
    for printed in data.split(NEXT):
        answer_of_git(printed)


def answer_of_git(data: bytes) -> None:
    def call(root: Path, *arguments: str, **_: object) -> process.Completed:
        return process.Completed(("git", *arguments), 0, data, b"")

    root = Path("/nonexistent")
    source, commit, tag = git.Git(root), "0" * 40, Tag("a", "0" * 40, "", "")
    with mock.patch.object(git_program, "call", call):
        proposal = git_proposal.GitProposal(root, Target("https://example.com/a", "main"))
        each(
            lambda: source.revision("main"),
            lambda: source.tree(None, "charts"),
            lambda: source.tip("main"),
            lambda: source.common_ancestor(commit, commit),
            lambda: source.parents(commit),
            lambda: source.subjects([commit]),
            lambda: source.changed(commit, commit, "charts"),
            lambda: source.history(commit, ["."], 9),
            lambda: source.position(commit),
            lambda: source.tags(),
            lambda: source.remote_tag(tag),
            lambda: (source.remote_url, source.branch(), source._remote_tag("origin", "a")),
            lambda: git_tree.read_status(root, ""),
            lambda: git_tree.parse_changed_modes(data, "charts", root),
            lambda: git_tree._object_ids(root, ["a", "b"]),
            lambda: git_objects.Objects(root)._lfs_store,
            lambda: (proposal.merged_by(commit), proposal.merge(commit, "a")),
        )


class Printed:
    """A program in a conversation that has printed some bytes and ended."""

    returncode = 1

    def __init__(self, data: bytes, stack: contextlib.ExitStack) -> None:
        self.stdin = stack.enter_context(os.fdopen(os.memfd_create("stdin"), "w+b"))
        self.stdout = stack.enter_context(os.fdopen(os.memfd_create("printed"), "w+b"))
        self.stderr = stack.enter_context(os.fdopen(os.memfd_create("stderr"), "w+b"))
        self.stdout.write(data)
        self.stdout.seek(0)

    def wait(self, _timeout: float) -> int:
        return self.returncode


def conversations(data: bytes) -> None:
    """What `git cat-file --batch` answers, and behind NEXT our command in brz."""
    root = Path("/nonexistent")
    objects_of_git, _, answer_of_brz = data.partition(NEXT)
    with contextlib.ExitStack() as stack:
        asked = [Printed(each, stack) for each in (objects_of_git, objects_of_git, answer_of_brz)]
        git_programs = [git_objects._CatFile(root, each, each.stderr) for each in asked[:2]]  # type: ignore[arg-type]
        objects = git_objects.Objects(root)
        objects.__dict__["_git"] = git_programs[1]
        brz = bzr_program.Brz(root, asked[2], asked[2].stderr)  # type: ignore[arg-type]
        each(
            git_programs[0].head,
            lambda: objects.prepare(["1" * 40]),
            lambda: objects.read(["2" * 40]),
        )
        with contextlib.suppress(bzr_program.BrzError):
            each(lambda: brz.ask("head", {}, 1))


def printed_by_svn(data: bytes) -> None:
    """What svn prints, each taken for the answer to every question; see `printed_by_git`."""

    def call(_: object, *arguments: str, **__: object) -> svn_program.Answer:
        return svn_program.Answer(process.Completed(("svn", *arguments), 0, data, b""))

    with mock.patch.object(svn_program.Programs, "call", call):
        programs, root = svn_program.Programs("a", {}), Path("/nonexistent")
        repository = svn_repository.Repository(programs, "https://example.com/svn", "u")
        files = svn_tree.WorkingFiles(programs, root)
        each(
            lambda: (repository.facts("trunk", 7), repository.newest),
            lambda: repository.log("trunk", 7, 1),
            lambda: repository.first("trunk", 7),
            lambda: repository.numbers("trunk", 7, 1),
            lambda: (repository.names("tags"), repository.files("trunk", 7)),
            lambda: svn._merged(repository.properties("trunk", 7).get("svn:mergeinfo", ""), "b"),
            lambda: svn_tags.Tags(repository, "tags").all(),
            lambda: (files.versioned, files.status, files.properties, files.ignored("")),
            lambda: (svn.Svn(root).is_tracked("a/b"), svn.Svn(root).is_versioned("a")),
            lambda: svn.Svn(root).revision(),
            lambda: svn.Svn(root)._version,
        )


def ignore_files(data: bytes) -> None:
    paths = ["a", "a/b.log", "x/y/z", "[", "a" * 200]
    with contextlib.suppress(PipelineError):
        rules = helmignore.parse(data, ".helmignore")
        assert isinstance([rules.left_out(path) for path in paths], list)
    list(dockerignore.not_ignored(paths, dockerignore.parse(data, ".dockerignore")))


def globs(data: bytes) -> None:
    """A pattern of pipeline.yaml."""
    for pattern in paths.expand_braces(data.decode("latin-1")):
        paths.glob_pattern(pattern).fullmatch("charts/web")


def words(data: bytes) -> None:
    """Words of a Dockerfile; a value error says what is wrong with one."""
    for word in shell_words.split(data.decode("latin-1")):
        with contextlib.suppress(shell_words.Unreadable):
            shell_words.expand(word, {"a": "1.2-alpine"})


def dump(data: bytes) -> None:
    """What `svnrdump dump` prints, replayed."""
    texts: list[bytes] = [b""]

    def keep(text: bytes) -> str:
        texts.append(text)
        return str(len(texts) - 1)

    replay = svn_dump.Replay(
        "", lambda key: texts[int(key or 0)], keep, lambda *_: svn_dump.Folder({})
    )
    for stored in svn_dump.records(io.BytesIO(data)):
        if stored.path:
            replay.apply(stored)


def layer(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "layer"
        file.write_bytes(data)
        image = image_layers.Image("", "", {}, (file,))
        for name, member in image.members().items():
            image.read(name, member.layer, 100)


def saved_image(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "image.tar"
        file.write_bytes(data)
        image_layers.from_tar(file, Path(folder))


def oci_layout() -> bytes:
    """A tar as BuildKit writes it, whose index names itself, too."""
    stream = io.BytesIO()
    files = {
        "index.json": {"manifests": [{"digest": "sha256:a"}, {"digest": "sha256:b"}]},
        "blobs/sha256/a": {"config": {"digest": "sha256:c"}, "layers": [{"digest": "sha256:c"}]},
        "blobs/sha256/b": {"manifests": [{"digest": "sha256:b"}]},
        "blobs/sha256/c": {"os": "linux"},
    }
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(json.dumps(content))
            tar.addfile(info, io.BytesIO(json.dumps(content).encode()))
    return stream.getvalue()


class Reader(NamedTuple):
    """What reads, something that it takes, and bytes to strew into that."""

    read: Callable[[bytes], object]
    good: bytes
    words: tuple[bytes, ...]


YAML = (
    b"&a ",
    b"*a",
    b"<<: ",
    b"!!python/object:x ",
    b"---\n",
    b"\t",
    b"[" * 500,
    b"\0",
    b"\xff",
    b"1e999",
    b"'",
    b": ",
)
JSON = (
    b"NaN",
    b"1" * 5000,
    b'"\\ud800"',
    b"[" * 5000,
    b"null",
    b'"a":',
    b"{",
    b"}",
    b"1e999",
    b"\xff",
    b"true",
    b"-1",
)
ANSWER = json.dumps({
    "name": "a", "tags": ["1.0.0", "2.0.0"], "message": "no", "error": "not found",
    "errors": [{"code": "MANIFEST_UNKNOWN", "message": "unknown", "field": "f", "detail": {}}],
    "id": 1, "tag_name": "a-1.0.0", "draft": False, "upload_url": "https://example.com/{?name}",
    "html_url": "https://example.com/a",
}).encode()  # fmt: skip
PERSON = {"_account_id": 1, "username": "a"}
CHANGE = json.dumps({
    "project": "a", "branch": "main", "_number": 7, "subject": "b", "status": "NEW", "owner": PERSON,
    "revisions": {"0" * 40: {"_number": 2, "ref": "refs/changes/07/7/2", "uploader": PERSON}},
    "messages": [
        {"message": "Patch Set 2: Verified+1 -Code-Review\n\n(1 comment)", "author": PERSON,
         "date": "2026-01-31 10:00:00.000000000", "_revision_number": 2},
        {"message": "Removed Verified+1 by <GERRIT_ACCOUNT_1>", "date": "", "tag": "x"},
    ],
    "labels": {"Verified": {"all": [{**PERSON, "value": 1}], "values": {" 0": "no", "+1": "yes"}}},
}).encode()  # fmt: skip
#: Of a pull request, an opinion, an event, a merge request, approvals and a note at once.
FORGE_REVIEW = json.dumps({
    "number": 1, "iid": 1, "html_url": "https://a/", "web_url": "https://a/", "title": "b",
    "state": "open", "base": {"ref": "main", "sha": "0"}, "head": {"ref": "x", "sha": "1"},
    "merged_at": "2026-01-31T10:00:00Z", "submitted_at": "2026-01-31T10:00:00+05:00",
    "created_at": "2026-01-31T10:00:00Z", "commit_id": "1", "official": True, "type": "pull_push",
    "body": '{"is_force_push": false, "commit_ids": ["0", "1"]}', "target_branch": "main",
    "sha": "1", "approved_by": [{"user": {"username": "a", "id": 1}}], "user": {"login": "a"},
}).encode()  # fmt: skip
TIMES = (b"0001-01-01T00:00:00+23:59", b"9999-12-31T23:59:60-23:59", b"+1", b"9" * 5000, b"\n")
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:%s\nsize 5\n" % (b"a" * 64)
PROPERTY = (
    b"^/lib/trunk@7 lib\n# old\nold -r 3 http://svn.example.com/x\n'a b' ../c $Id: x $ Id Rev"
)
IGNORED = b"# comment\n*.log\n!a/*\n**/x/[a-c]?\n/docs/\n\\#x\n"
GLOBS = (b"*", b"**", b"**/", b"[", b"]", b"^", b"!", b"\\", b"/", b"?", b"-", b"a*" * 40, b"\xff")
DOCKERFILE = (
    b"# syntax=docker/dockerfile:1\nARG V=1\nFROM --platform=$BUILDPLATFORM a:${V:-2} AS b\n"
    b"COPY --from=b x y\nRUN <<E\nmore \\\nE\nFROM b\nCOPY --from=c:1 . .\n"
)
DELTA = b"SVN\0" + bytes([0, 0, 4, 3, 3, 0x83, 0x41, 0x00]) + b"abc"
DUMP = (
    b"SVN-fs-dump-format-version: 3\n\nRevision-number: 1\nProp-content-length: 10\n\nPROPS-END\n\n"
    b"Node-path: a\nNode-kind: dir\nNode-action: add\n\n"
    b"Node-path: a/b\nNode-kind: file\nNode-action: add\nProp-content-length: 36\n"
    b"Text-content-length: %d\nText-delta: true\n\nK 14\nsvn:executable\nV 1\n*\nPROPS-END\n%s\n\n"
    b"Node-path: c\nNode-action: add\nNode-copyfrom-path: a\nNode-copyfrom-rev: 1\n\n"
) % (len(DELTA), DELTA)
NEXT = b"\x1e"
#: Ids, a tag, a status, a setting, and references of a server; each ends as git ends it.
PRINTED_BY_GIT = (
    b"%s\n", b"%s %s\n", b"git version 2.39.5\n", b"7\n", b"S charts/a\0h charts/b\0",
    b"a\0%s\0tag\0%s\x00%d\0text\n-----BEGIN PGP SIGNATURE-----\n\0\n",
    b"# branch.oid %s\0# branch.head main\x001 .M N... 100644 100644 100644 %s %s charts/a\0? b/\0",
    b"%s\trefs/tags/a\n%s\trefs/tags/a^{}\n", b"remote.origin.url\nhttps://example.com/a\0",
)  # fmt: skip
OBJECTS = b"%s commit 46\ntree %s\n\n" % (b"1" * 40, b"3" * 40) + b"%s tree 0\n\n%s blob 1\na\n" % (
    b"3" * 40,
    b"2" * 40,
)
BRZ_ANSWER = b'{"answer": {"revision": "a"}, "sizes": [2]}\nab'
PRINTED_BY_SVN = b"""<?xml version="1.0"?>
<log><entry path="/nonexistent/a" revision="7" kind="file"><url>https://example.com/svn/trunk</url>
<relative-url>^/trunk</relative-url><repository><root>https://example.com/svn</root><uuid>u</uuid>
</repository><commit revision="6"/><wc-status item="modified" props="none"/><name>a</name></entry>
<logentry revision="7"><date>2026-01-31T10:00:00.000000Z</date><msg>a</msg><paths>
<path action="A" kind="dir" copyfrom-path="/trunk" copyfrom-rev="6">/tags/a-1.0.0</path></paths>
</logentry><target path="/nonexistent/a"><property name="svn:mergeinfo">/b:3-5,7*</property></target>
</log>
"""
TREE = b"100644 a\0" + b"\1" * 20 + b"40000 b\0" + b"\2" * 20 + b"120000 c\0" + b"\3" * 20
READERS = {
    "archive": Reader(archive.open_subchart, packed().tgz, (b"\x1f\x8b\x08", b"\0" * 99, b"\xff" * 9)),
    "tar": Reader(
        lambda data: archive.open_subchart(gzip.compress(data, 1)), gzip.decompress(packed().tgz),
        (b"../x", b"\0" * 512, b"77777777777", b"\xff" * 12, b"\x80", b"ustar", b"path=", b"L", b"x"),
    ),
    "Chart.yaml": Reader(lambda data: read.read_metadata(data, "Chart.yaml"), CHART, YAML),
    "index.yaml": Reader(lambda data: Index(data, "index.yaml").entries(), INDEX, YAML),
    "state": Reader(lambda data: record.decode(data, where="state"), RECORD, JSON),
    "manifest": Reader(manifest, MANIFEST, JSON),
    "image configuration": Reader(
        lambda data: image_layers.read_config(data, "x"), b'{"os": "linux", "config": {}}', JSON
    ),
    "layer": Reader(layer, packed().tgz, (b"\x1f\x8b\x08", b"\0" * 99, b"\xff" * 9, b"BZh9", b"\xfd7zXZ\0")),
    "saved image": Reader(saved_image, oci_layout(), (b'"digest"', b"[]", b"null", b"sha256:b", b"ustar")),
    "answers": Reader(answers, ANSWER, JSON),
    "change of Gerrit": Reader(gerrit_change, CHANGE, (*JSON, *TIMES, b"Patch Set ", b"Removed ")),
    "review of a forge": Reader(forge_reviews, FORGE_REVIEW, (*JSON, *TIMES)),
    "stored": Reader(
        stored, POINTER + PROPERTY, (b"9" * 700,
        b"'", b'"', b"\\", b"-r", b"-r 3", b"@", b"@\xb2 ", b"^/", b"//", b"..", b"$", b"[", b"\x85")
    ),
    "headers": Reader(
        headers, b'Bearer realm="https://example.com/t",service="a",scope="b"',
        (b'"', b",", b"=", b"\\", b"Sat, 31 Jan 2026 10:00:09 GMT", b"9" * 5000, b"-1", b"realm="),
    ),
    "rows of an index": Reader(lambda data: index_rows.read_rows(data, "index.yaml"), INDEX, YAML),
    "values": Reader(lambda data: values.check(data, "values.yaml"), b"a: &a {b: [1, 2]}\nc: *a\n", YAML),
    "ignore files": Reader(ignore_files, IGNORED, GLOBS),
    "Dockerfile": Reader(
        lambda data: dockerfile.parse(data, "Dockerfile", args={}), DOCKERFILE,
        (b"FROM ", b"ARG ", b"${", b"}", b"\\\n", b"<<E", b"--from=", b" AS ", b"$", b"\xff", b"\xc2\xb2"),
    ),
    "patterns": Reader(globs, b"charts/{a,b-[c-d]}/**/x?", (*GLOBS, b"{", b"}", b",", b"[z-a]", b"[!")),
    "words": Reader(
        words, b"A=1 B=\"x ${a:-b}\" ${a%-*} ${a##[0-9]} 'c'",
        (b"${", b"}", b"$", b'"', b"'", b"\\", b"%", b"#", b"//", b":?", b"*", b"${a/"),
    ),
    "dump": Reader(dump, DUMP, (b"\n\n", b"K ", b"D ", b"9" * 30, b"-1", b"SVN\0", b"\xff" * 9, b"PROPS-END")),
    "git": Reader(
        printed_by_git, NEXT.join(PRINTED_BY_GIT).replace(b"%s", b"0" * 40).replace(b"%d", b"1767225607"),
        (b"\0", b"\n", b" ", NEXT, b"# branch.oid ", b"u ", b"1 ", b"9" * 5000, b"-1", b"\xff", b"0" * 40, b"tag"),
    ),
    "conversations": Reader(
        conversations, OBJECTS + NEXT + BRZ_ANSWER,
        (*JSON, NEXT, b'"error"', b'"sizes"', b" missing\n", b" 5\n", b" -1\n", b"\n", b"object ", b"\0"),
    ),
    "svn": Reader(
        printed_by_svn, PRINTED_BY_SVN,
        (b"<", b">", b"</path>", b"<!DOCTYPE a [<!ENTITY b 'c'>]>", b"&b;", b"9" * 5000, b'revision="x"', b"\xff",
         b"\xb2".decode("latin-1").encode(), b"7", b"/tags/a/b", b"copyfrom-rev", b"wc-status", b"-", b",", b":"),
    ),
    "tree": Reader(
        lambda data: git_objects._nodes(git_objects._tree_rows("0" * 40, data)), TREE,
        (b"\0", b"100755 ", b"..", b"/", b"9" * 30),
    ),
}  # fmt: skip


@st.composite
def damaged(draw: st.DrawFn, reader: Reader) -> bytes:
    """The good input with up to six pieces of it replaced, doubled or cut out."""
    data = reader.good
    for _ in range(draw(st.integers(1, 6))):
        start = draw(st.integers(0, len(data)))
        end = start + draw(st.integers(0, 40))
        new = draw(
            st.sampled_from(reader.words)
            | st.binary(max_size=20)
            | st.just(data[start : start + 200] * 2)
        )
        data = data[:start] + new + data[end:]
    return data


def fuzz(name: str, inputs: int) -> None:
    """Try a reader; called in a child."""
    reader = READERS[name]
    reader.read(reader.good)

    @settings(
        max_examples=inputs,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        derandomize=INPUTS <= AT_ONCE,  # as the lanes do: see tests/conftest.py
    )
    @given(damaged(reader) | st.binary(max_size=400))
    def tried(data: bytes) -> None:
        began = time.process_time()
        with contextlib.suppress(PipelineError):
            reader.read(data)
        assert time.process_time() - began < SECONDS

    tried()


#: VmHWM, as a child's ru_maxrss begins with what its parent needed at most.
CHILD = """
import re, sys
from pathlib import Path
from tests.unit.test_fuzz import fuzz
fuzz(sys.argv[1], int(sys.argv[2]))
print(re.search(r"VmHWM:\\s*(\\d+) kB", Path("/proc/self/status").read_text())[1])
"""


@pytest.mark.parametrize("name", READERS)
def test_it_is_read_or_refused_by_name_in_time_and_in_little_memory(name: str) -> None:
    for begin in range(0, INPUTS, AT_ONCE):
        command = [sys.executable, "-c", CHILD, name, str(min(AT_ONCE, INPUTS - begin))]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        mib = int(done.stdout.splitlines()[-1]) / 1024
        assert mib <= MOST_MIB, f"{mib:.0f} MiB"
