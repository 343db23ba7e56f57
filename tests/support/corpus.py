"""Charts of every shape, made by a few lines each: what helm packages, what it refuses, what only
we refuse.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Literal, NamedTuple

from tests.support.charts import files, packed

Who = Literal["nobody", "both", "us"]


class Case(NamedTuple):
    """The sources of one chart. files: path below the source's root → bytes, the chart in hello/;
    links among them.

    refuse: who refuses it; what only we refuse stands in ALONE. says: what our refusal says.
    """

    name: str
    files: dict[str, bytes]
    refuse: Who = "nobody"
    says: str = ""
    executables: frozenset[str] = frozenset()
    links: frozenset[str] = frozenset()


#: Cases that helm, 3 or 4, takes and we refuse → how docs/how-to/charts.md says it.
ALONE = {
    "a file above 5 "
    "MiB": "files above 5 MiB, as helm 3 does; helm 4 packs them and cannot read its package then",
    "a file of nothing but "
    "zeros": "what packs to less than a 200th: readers take such an archive for a bomb",
    "a schema that refers to a "
    "file": "a values.schema.json that refers to files or hosts; helm reads them anew",
    "a link out of the source": "symbolic links to what is not in the source",
    "two names that differ in "
    "case": "names of files that differ only in case, or in how a letter is composed",
    "a name with a control character": "names of files with control characters",
    "a name with a backslash": "names of files with a backslash",
    "a folder like a drive": "folders called like a drive of Windows",
    "a deep folder": "folders deeper than 20",
    "a subchart of another version": "a chart in charts/ that does not fit the range in Chart.yaml",
    "requirements.yaml with a version of its own": "requirements.yaml that sets more than dependencies",
    "a range without a lock": "a range of versions without a lock, in charts that it packs, too",
    "Chart.yaml: a version of two numbers": "versions that are not three numbers",
    "Chart.yaml: a version with a v": "versions with a leading v",
    "Chart.yaml: an unknown apiVersion": "an apiVersion that is neither v1 nor v2, as helm 4 does",
    "Chart.yaml: a number for a "
    "text": "a number, date or truth value in Chart.yaml where helm wants text",
    "Chart.yaml: no apiVersion": "Chart.yaml without apiVersion",
    "Chart.yaml: a key twice": "a key twice in Chart.yaml",
    "Chart.yaml: an alias": "YAML aliases in Chart.yaml",
    "Chart.yaml: a tag of its own": "YAML tags in Chart.yaml",
    "Chart.yaml: two documents": "a second YAML document in Chart.yaml",
    "Chart.yaml: upper-case "
    "letters": "names of charts with other signs than lower-case letters, digits and -",
    "Chart.yaml: a repository by its local "
    "name": "repositories by a local name, which differs by machine",
}


def served() -> list[tuple[str, bytes]]:
    """File name and bytes of the charts in the repository that some of the cases depend on."""
    leaf = "dependencies: [{name: leaf, version: 0.1.0, repository: ''}]\n"
    cache = packed(
        "cache", "0.4.1", more=leaf, **{"charts__leaf__Chart_yaml": CHART.format("leaf", "0.1.0")}
    )
    charts = [packed("db", version) for version in ("1.2.0", "1.3.0", "2.0.0-rc.1")]
    return [(archive.file_name, archive.tgz) for archive in (*charts, cache)]


CHART = "apiVersion: v2\nname: {}\nversion: {}\n"
RICH = (
    "description: 'ä'\nhome: https://example.com\nicon: i\nsources: [https://s.example.com, "
    "b]\nkeywords: [k]\n"
    "maintainers: [{name: M, email: m@example.com}, {name: N, url: u}]\nannotations: "
    "{a.b/c: 'true'}\n"
    "appVersion: '1.10'\nkubeVersion: '>=1.20-0'\ntype: application\ndeprecated: "
    "true\ncondition: c\ntags: t\n"
)
SCHEMA = json.dumps({"$schema": "http://json-schema.org/draft-07/schema#", "type": "object"})
MAP = (
    'apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: "{{{{ .Release.Name }}}}-{0}"}}\ndata: '
    "{{a: {0}}}\n"
)
CRD = """\
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: things.example.com}
spec: {group: example.com, names: {kind: Thing, plural: things}, scope: Cluster, versions: []}
"""


def chart(more: str = "", added: Mapping[str, str | bytes] | None = None, name: str = "hello", *, folder: str = "",
          version: str = "1.0.0", without: str = "") -> dict[str, bytes]:  # fmt: skip
    """The files of a chart below `folder` (its name by default). added: path in the chart → text or
    bytes.
    """
    chart_files = {
        **files(name, version, more=more),
        **{path: _bytes(data) for path, data in (added or {}).items()},
    }
    return {
        f"{folder or name}/{path}": data for path, data in chart_files.items() if path != without
    }


def needing(*dependencies: str) -> str:
    """The dependencies of a Chart.yaml, each written between braces."""
    return "dependencies:\n" + "".join(f"  - {{{dependency}}}\n" for dependency in dependencies)


def lock(*entries: tuple[str, str, str]) -> str:
    return "dependencies:\n" + "".join(
        f"- name: {n}\n  repository: {r}\n  version: {v}\n" for n, v, r in entries
    )


def cases(web: str, oci: str) -> Iterator[Case]:
    """Every case. web, oci: URLs of the repository with the charts of `served`."""
    yield from plain()
    yield from named()
    yield from with_values()
    yield from with_subcharts()
    yield from with_local_dependencies()
    yield from with_fetched_dependencies(web, oci)
    yield from wrong_metadata()


def plain() -> Iterator[Case]:
    yield Case("a small chart", chart())
    yield Case("only Chart.yaml", {"hello/Chart.yaml": CHART.format("hello", "1.0.0").encode()})
    yield Case("every key of Chart.yaml", chart(RICH))
    yield Case("a key of one's own in Chart.yaml", chart("mine: {a: [1]}  # kept\n"))
    yield Case(
        "a library", chart("type: library\n", {"templates/_x.tpl": '{{ define "x" }}{{ end }}'})
    )
    yield Case("notes, helpers, a test", chart(added={
        "templates/NOTES.txt": "Hello {{ .Release.Name "
            "}}\n", "templates/_helpers.tpl": '{{ define "n" }}x{{ end }}',
        "templates/tests/a.yaml": MAP.format("test") + "# {{ include \"n\" . }}\n",
    }))  # fmt: skip
    yield Case(
        "custom resources",
        chart(added={"crds/a.yaml": CRD, "crds/deep/b.yaml": f"{CRD}---\n{CRD}"}),
    )
    yield Case(
        "files outside of templates",
        chart(
            added={
                "README.md": "# r\n",
                "LICENSE": "l\n",
                "files/a.bin": bytes(range(256)),
                "ci/a-values.yaml": "greeting: ci\n",
                "templates/files.yaml": MAP.format("files")
                + 'binaryData: {b: "{{ .Files.Get "files/a.bin" | b64enc }}"}\n',
            }
        ),
    )
    yield Case(
        "empty files",
        chart(added={"values.yaml": "", "templates/empty.yaml": "", "files/empty": ""}),
    )
    yield Case(
        "executables",
        chart(added={"bin/run.sh": "#!/bin/sh\n"}),
        executables=frozenset({"hello/bin/run.sh"}),
    )
    ignoring = chart(added={".helmignore": "*.bak\n", "x.bak": ""})
    yield Case(
        "line ends of Windows",
        {path: data.replace(b"\n", b"\r\n") for path, data in ignoring.items()},
    )
    yield Case("byte order marks", {path: b"\xef\xbb\xbf" + data for path, data in chart().items()})
    yield Case("a schema", chart(added={"values.schema.json": SCHEMA}))
    yield Case(
        "a lock without dependencies", chart(added={"Chart.lock": "dependencies: []\ndigest: x\n"})
    )
    yield Case(
        "apiVersion v1",
        {**chart(), "hello/Chart.yaml": b"apiVersion: v1\nname: hello\nversion: 1.0.0\n"},
    )
    yield Case("links inside the source", {
        **chart(added={"files/one": "1", "link": "files/one", "folder": "../shared"}), "shared/deep/two": b"2",
    }, links=frozenset({"hello/link", "hello/folder"}))  # fmt: skip
    yield Case("ignored files", chart(added={
        ".helmignore": "# c\n*.bak\n/tmp/\n  spaces  \nci/\nlogs\n\n", "a.bak": "", "tmp/x": "", "spaces": "",
        "ci/v": "", "logs/deep/x": "", "deep/tmp/kept": "", "deep/spaces": "", "deep/logs/x": "",
    }))  # fmt: skip
    yield Case(
        "all but", chart(added={".helmignore": "!*\n*.md\n", "README.md": "", "kept.txt": ""})
    )
    noise = b"".join(
        hashlib.sha512(str(number).encode()).digest() for number in range(5 * 2**20 // 64)
    )
    yield Case("a file of 5 MiB", chart(added={"files/large": noise}))
    yield Case(
        "many files",
        chart(added={f"files/{number:04}/{number}.txt": str(number) for number in range(400)}),
    )
    yield Case(
        "a file above 5 MiB", chart(added={"files/large": noise + b"x"}), "us", "more than 5242880"
    )
    yield Case(
        "a file of nothing but zeros",
        chart(added={"files/0": bytes(4 * 2**20)}),
        "us",
        "more than 200 times",
    )
    yield Case("a link out of the source", chart(added={"link": "/etc/hostname"}), "us", "points outside the checkout",
               links=frozenset({"hello/link"}))  # fmt: skip
    referring = chart(added={"values.schema.json": '{"$ref": "file:///nowhere/x.json"}'})
    yield Case(
        "a schema that refers to a file", referring, "us", "it refers to 'file:///nowhere/x.json'"
    )
    yield Case(
        "a schema that is not JSON",
        chart(added={"values.schema.json": "{"}),
        "both",
        "schema.json: not JSON",
    )
    yield Case(
        "a pattern that cannot be",
        chart(added={".helmignore": "**/x\n"}),
        "both",
        ".helmignore:1: ",
    )


def named() -> Iterator[Case]:
    """Names of files."""
    yield Case("names beyond ASCII", chart(added={
        "files/größe/☃.txt": "snow", "files/cafe\u0301.txt": "in two parts", "files/日本": "",
        "templates/ü.yaml": MAP.format("u"),
    }))  # fmt: skip
    yield Case(
        "names with odd signs",
        chart(added={"files/a b": "", "files/a'b\"$(x)`;&": "", "files/-rf": "", "~": ""}),
    )
    yield Case(
        "long names",
        chart(
            added={
                f"files/{'n' * 60}/{'m' * 90}": "",
                f"files/{'l' * 250}": "",
                f"{'d/' * 15}x": "",
            }
        ),
    )
    yield Case(
        "two names that differ in case",
        chart(added={"files/a": "", "files/A": ""}),
        "us",
        "same name on some",
    )
    yield Case(
        "a name with a control character",
        chart(added={"files/a\x1b[31m": ""}),
        "us",
        "control characters",
    )
    yield Case("a name with a backslash", chart(added={"files/a\\b": ""}), "us", "a backslash")
    yield Case("a folder like a drive", chart(added={"files/c:/x": ""}), "us", "a drive of Windows")
    yield Case("a deep folder", chart(added={f"files/{'d/' * 20}x": ""}), "us", "is deeper than 20")


def with_values() -> Iterator[Case]:
    for name, text in {
        "values with anchors": "greeting: &a hello\nimage: {repository: *a, tag: x}\nall: {<<: {a: 1}}\n",
        "values of comments": "# greeting: hello\n",
        "values that are null": "null\n",
        "values in two documents": "greeting: a\n---\nimage: {repository: r, tag: t}\n",
        "values with dates and numbers": "a: 2026-01-31\nb: 0o17\nc: 1e3\nd: no\ngreeting: 012\n",
        "values with a key twice": "a: 1\na: 2\n",
        "values with a tag": "a: !!str 1\nb: !mine x\n",
    }.items():
        yield Case(name, chart(added={"values.yaml": text}))
    for name, data in {
        "values that are a list": b"- a\n", "values that are a text": b"hello\n", "values that are no YAML": b"a: [\n",
        "values with a tab": b"a:\n\tb: 1\n", "values that are not UTF-8": b"a: \xff\n",
        "values with an alias of nothing": b"a: *b\n",
    }.items():  # fmt: skip
        yield Case(name, chart(added={"values.yaml": data}), "both", "hello/values.yaml")


def with_subcharts() -> Iterator[Case]:
    """Subcharts in charts/."""
    inner = chart(name="sub", folder="charts/sub")
    tgz = {f"charts/{name}": data for name, data in served()}
    yield Case("a subchart as a folder", chart(added=inner))
    yield Case(
        "a subchart that Chart.yaml names", chart(needing("name: sub, version: 1.0.0"), inner)
    )
    yield Case(
        "a subchart with another name for it",
        chart(needing("name: sub, alias: other, version: '*'"), inner),
    )
    yield Case("subcharts in subcharts", chart(added={
        **inner, "charts/sub/charts/db-1.2.0.tgz": tgz["charts/db-1.2.0.tgz"],
        **chart(name="leaf", folder="charts/sub/charts/leaf"),
        **chart(name="twig", folder="charts/sub/charts/leaf/charts/twig"),
    }))  # fmt: skip
    yield Case(
        "a subchart as an archive", chart(added={"charts/db-1.2.0.tgz": tgz["charts/db-1.2.0.tgz"]})
    )
    yield Case(
        "an archive with subcharts", chart(added={"charts/any.tgz": tgz["charts/cache-0.4.1.tgz"]})
    )
    yield Case(
        "a subchart with an ignore file",
        chart(added={**inner, "charts/sub/.helmignore": "*.bak\n", "charts/sub/x.bak": ""}),
    )
    yield Case(
        "hidden things in charts",
        chart(added={"charts/_draft/x": "", "charts/.keep": "", "charts/a.prov": "p"}),
    )
    yield Case(
        "something else in charts",
        chart(added={"charts/README.md": ""}),
        "both",
        "in charts/ and no chart",
    )
    yield Case(
        "an archive that is none",
        chart(added={"charts/db-1.0.0.tgz": "x"}),
        "both",
        "charts/db-1.0.0.tgz",
    )
    yield Case("a subchart with broken values", chart(added={**inner, "charts/sub/values.yaml": "a: [\n"}), "both",
               "hello/charts/sub/values.yaml")  # fmt: skip
    yield Case("a subchart with a broken Chart.yaml", chart(added={**inner, "charts/sub/Chart.yaml": "a: [\n"}), "both",
               "hello/charts/sub/Chart.yaml")  # fmt: skip
    yield Case("a subchart of another version", chart(needing("name: sub, version: ^2.0.0"), inner), "us",
               "which does not fit")  # fmt: skip
    yield Case("a named subchart that is not there", chart(needing("name: sub, version: 1.0.0")), "both",
               "has no repository and is not in charts/")  # fmt: skip
    yield Case(
        "two of one name",
        chart(needing("name: sub", "name: sub"), inner),
        "both",
        "two dependencies are called 'sub'",
    )


def with_local_dependencies() -> Iterator[Case]:
    """Dependencies on folders beside the chart."""
    local = "version: {1}, repository: 'file://../{0}'".format
    common = chart(name="common")
    one = f"name: common, {local('common', '1.0.0')}"
    yield Case("a chart beside it", {**chart(needing(one)), **common})
    yield Case(
        "a chart beside it, as a range",
        {**chart(needing(f"name: common, {local('common', '^1')}")), **common},
    )
    yield Case(
        "a library beside it",
        {
            **chart(needing(one)),
            **chart("type: library\n", name="common", without="templates/greeting.yaml"),
        },
    )
    yield Case("a chart beside it, twice", {
        **chart(needing(f"{one}, alias: one", f"{one}, alias: two"), {"values.yaml": "one: {greeting: a}\n"}), **common,
    })  # fmt: skip
    yield Case("a chart beside it, switched off", {
        **chart(needing(f"{one}, condition: common.enabled"), {"values.yaml": "common: {enabled: false}\n"}), **common,
    })  # fmt: skip
    yield Case("a chart beside it, by tags", {
        **chart(needing(f"{one}, tags: [back, front]"), {"values.yaml": "tags: {back: false}\n"}), **common,
    })  # fmt: skip
    yield Case("values taken from a chart beside it", {
        **chart(needing(f"{one}, import-values: [{{child: image, parent: theirs}}]")), **common,
    })  # fmt: skip
    yield Case("charts beside charts", {
        **chart(needing(one)), **chart(name="leaf"),
        **chart(needing(f"name: leaf, {local('leaf', '1.0.0')}"), name="common"),
    })  # fmt: skip
    yield Case("a chart beside it with an ignore file", {
        **chart(needing(one)), **chart(name="common", added={".helmignore": "*.bak\n", "x.bak": "", "y": ""}),
    })  # fmt: skip
    yield Case(
        "a folder that is not there", chart(needing(one)), "both", "common: Chart.yaml is missing"
    )
    yield Case("a chart beside it of another version", {
        **chart(needing(f"name: common, {local('common', '^2.0.0')}")), **common,
    }, "both", "which does not fit")  # fmt: skip
    old = b"apiVersion: v1\nname: hello\nversion: 1.0.0\n"
    yield Case("requirements.yaml with a folder", {
        **chart(added={"requirements.yaml": needing(one), "Chart.yaml": old}), **common,
    })  # fmt: skip
    yield Case("requirements.yaml beside apiVersion v2", {
        **chart(added={"requirements.yaml": needing(one)}), **common,
    })  # fmt: skip
    yield Case("requirements.yaml over the dependencies in Chart.yaml", {
        **chart(needing("name: other, version: 1.0.0"), {"requirements.yaml": needing(one)}), **common,
    })  # fmt: skip
    yield Case("requirements.yaml without dependencies", {
        **chart(needing(one), {"requirements.yaml": "# none any more\n"}), **common,
    })  # fmt: skip
    yield Case("requirements.yaml that takes the dependencies away", {
        **chart(needing(one), {"requirements.yaml": "dependencies: []\n"}),
    })  # fmt: skip
    yield Case("requirements.yaml with a version of its own", {
        **chart(added={"requirements.yaml": f"version: 7.0.0\n{needing(one)}"}), **common,
    }, "us", "requirements.yaml sets version")  # fmt: skip
    yield Case("requirements.yaml that is a list", {
        **chart(added={"requirements.yaml": "- a\n"}),
    }, "both", "requirements.yaml is not a mapping")  # fmt: skip


def with_fetched_dependencies(web: str, oci: str) -> Iterator[Case]:
    """Dependencies from repositories."""
    dependency = "name: {}, version: {!r}, repository: {!r}".format
    exact = dependency("db", "1.2.0", web)
    yield Case("an exact version", chart(needing(exact)))
    yield Case("an exact version from a registry", chart(needing(dependency("db", "1.2.0", oci))))
    yield Case(
        "a chart with subcharts from a repository",
        chart(needing(dependency("cache", "0.4.1", web))),
    )
    yield Case(
        "an exact version, twice", chart(needing(f"{exact}, alias: a", f"{exact}, alias: b"))
    )
    vendored = {f"charts/{name}": data for name, data in served() if name == "db-1.2.0.tgz"}
    yield Case(
        "a vendored archive of a range", chart(needing(dependency("db", "^1.0.0", web)), vendored)
    )
    yield Case("requirements.yaml", chart(added={
        "Chart.yaml": "apiVersion: v1\nname: hello\nversion: 1.0.0\n", "requirements.yaml": needing(exact),
    }))  # fmt: skip
    yield Case(
        "a range without a lock",
        chart(needing(dependency("db", "^1.0.0", web))),
        "us",
        "is a range without a lock",
    )
    yield Case(
        "a version that is not there",
        chart(needing(dependency("db", "9.9.9", web))),
        "both",
        "is not in the repository",
    )


def wrong_metadata() -> Iterator[Case]:
    """What Chart.yaml must not say."""
    good = CHART.format("hello", "1.0.0")
    for name, text, says in [
        ("no YAML", "a: [", "not YAML"), ("a list", "- a\n", "is not a mapping"),
        ("no name", "apiVersion: v2\nversion: 1.0.0\n", "name is missing"),
        ("no version", "apiVersion: v2\nname: hello\n", "version is missing"),
        ("a version of words", good.replace("1.0.0", "new"), "is not a SemVer 2 version"),
        ("an unknown type", f"{good}type: job\n", "neither application nor library"),
        ("a bad alias", good + needing("name: a, alias: 'x y'"), "alias 'x y' is not allowed"),
        ("an entry of dependencies that is null", f"{good}dependencies: [null]\n", "an entry of dependencies is not"),
        ("a text for the maintainers", f"{good}maintainers: me\n", "maintainers"),
        ("an entry of the maintainers that is null", f"{good}maintainers: [null]\n", "maintainers"),
        ("a list for the annotations", f"{good}annotations: [a]\n", "annotations"),
        ("a text for the keywords", f"{good}keywords: a\n", "keywords"),
    ]:  # fmt: skip
        yield Case(f"Chart.yaml: {name}", chart(added={"Chart.yaml": text}), "both", says)
    yield Case("no Chart.yaml", chart(without="Chart.yaml"), "both", "Chart.yaml is missing")
    local = needing("name: db, version: 1.2.0, repository: '@served'")
    for name, text, says in [
        ("a version of two numbers", good.replace("1.0.0", "'1.0'"), "is not a SemVer 2 version"),
        ("a version with a v", good.replace("1.0.0", "v1.0.0"), "is not a SemVer 2 version"),
        ("an unknown apiVersion", good.replace("v2", "v3"), "is not v1 or v2"),
        ("a number for a text", f"{good}appVersion: 1.10\n", "is read as a float"),
        ("no apiVersion", "name: hello\nversion: 1.0.0\n", "apiVersion is missing"),
        ("a key twice", f"{good}name: other\n", "occurs twice"),
        ("an alias", f"{good}home: &a x\nicon: *a\n", "the alias *a is not read"),
        ("upper-case letters", good.replace("hello", "Hello"), "is not allowed"),
        ("a tag of its own", f"{good}home: !x y\n", "the tag !x is not read"),
        ("two documents", f"{good}---\na: b\n", "a second YAML document"),
        ("a repository by its local name", good + local, "which is not a URL"),
    ]:
        yield Case(f"Chart.yaml: {name}", chart(added={"Chart.yaml": text}), "us", says)


def _bytes(data: str | bytes) -> bytes:
    return data.encode() if isinstance(data, str) else data
