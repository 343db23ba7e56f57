"""index.yaml of classic repositories as a pure function of bytes: read strictly, added to in place.

What is there stays byte for byte, unknown fields too; an entry is put where helm would sort it.
Source: helm 3 and 4, pkg/repo/index.go.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import yaml

from pipeline_steps.charts import documents
from pipeline_steps.charts.metadata import CREATED, helm_metadata
from pipeline_steps.charts.version import parse as parse_version
from pipeline_steps.core.errors import EvidenceError

#: Bytes of an index; the largest public ones have about 20 MB.
LARGEST = 64 * 2**20


class Entry(NamedTuple):
    """One chart version. digest: "sha256:" + hex of the .tgz, "" when the index has none; urls: as written."""

    name: str
    version: str
    digest: str
    urls: tuple[str, ...]
    removed: bool


def entry(fields: Mapping[str, Any], digest: str, url: str, created: str = CREATED) -> dict[str, Any]:
    """A new entry. fields: of Chart.yaml; digest: of the .tgz; url: relative to the index or absolute."""
    own = {"created": created, "digest": digest.removeprefix("sha256:"), "urls": [url]}
    found: dict[str, Any] = _sorted({**helm_metadata(fields), **own})
    return found


def _sorted(value: Any) -> Any:
    """Keys in the order helm writes them, at all levels."""
    if isinstance(value, Mapping):
        return {key: _sorted(value[key]) for key in sorted(value)}
    return [_sorted(item) for item in value] if isinstance(value, list) else value


class Index:
    """A parsed index; `data` None: one that is not there yet.

    Raises EvidenceError naming the line: no index, or in what is asked for a version twice, an entry without
    version, a wrong digest. What the index says of charts that are not asked for is not judged.
    """

    def __init__(self, data: bytes | None, where: str) -> None:
        self.where = where
        if data is None:
            data = f'apiVersion: v1\nentries: {{}}\ngenerated: "{CREATED}"\n'.encode()
        self.text, root = documents.parse(data, where, largest=LARGEST, error=EvidenceError)
        if not isinstance(root, documents.Mapping) or root.get("apiVersion") is None:
            raise EvidenceError("not an index: it has no apiVersion", where=where, advice="regenerate rebuilds it")
        self.root = root
        found = root.get("entries")
        if not isinstance(found, documents.Mapping):
            raise EvidenceError("entries is missing or no mapping", where=where, advice="regenerate rebuilds it")
        self.charts = found

    def _fail(self, what: str, line: int) -> EvidenceError:
        return EvidenceError(what, where=f"{self.where}:{line + 1}", advice="regenerate rebuilds the index")

    def entries(self) -> dict[str, list[Entry]]:
        """Chart name → its versions, in the order written."""
        return {key.value: self.versions(key.value) for key, _ in self.charts.items}

    def versions(self, name: str) -> list[Entry]:
        """The versions of one chart, in the order written; none when the index does not have it."""
        return [entry for entry, _ in self._placed(name)]

    def find(self, name: str, version: str) -> Entry | None:
        """The entry of a version, None when the index does not have it."""
        return next((entry for entry in self.versions(name) if entry.version == version), None)

    def _placed(self, name: str) -> list[tuple[Entry, int]]:
        """The entries of a chart with the line each begins at."""
        node = self.charts.get(name)
        if node is None or (isinstance(node, documents.Scalar) and node.meaning == "null"):
            return []
        if not isinstance(node, documents.Sequence):
            raise self._fail(f"the entry {name} is not a list", node.line)
        found = [(self._entry(name, item), item.line) for item in node.items]
        seen: set[str] = set()
        for one, line in found:
            if one.version in seen:
                raise self._fail(f"{name} {one.version} is in the index twice", line)
            seen.add(one.version)
        return found

    def _entry(self, name: str, node: documents.Node) -> Entry:
        if not isinstance(node, documents.Mapping):
            raise self._fail(f"an entry of {name} is not a mapping", node.line)
        fields = documents.plain(node)
        version, urls, digest = fields.get("version"), fields.get("urls") or [], fields.get("digest") or ""
        if fields.get("name") != name or not isinstance(version, str):
            raise self._fail(f"an entry of {name} has another name or no version", node.line)
        if not isinstance(urls, list) or not all(isinstance(url, str) for url in urls):
            raise self._fail(f"{name} {version} has urls that are no list of texts", node.line)
        if digest and not re.fullmatch(r"(sha256:)?[0-9a-f]{64}", str(digest)):
            raise self._fail(f"{name} {version} has the digest {digest!r}, which is no sha256", node.line)
        plain = f"sha256:{str(digest).removeprefix('sha256:')}" if digest else ""
        return Entry(name, version, plain, tuple(urls), fields.get("removed") is True)

    def with_entry(self, new: Mapping[str, Any]) -> bytes:
        """The index with an entry more, made by `entry`; everything else stays as it is.

        Raises EvidenceError when the version is in the index already: entries are never replaced.
        """
        name, version = str(new["name"]), str(new["version"])
        there = self._placed(name)
        if any(one.version == version for one, _ in there):
            raise EvidenceError(f"{name} {version} is in the index already", where=self.where)
        if self.root.flow:
            return self._with_entry_in_json(new, [one.version for one, _ in there])
        if self.charts.flow:
            return self._with_first_entry(new)
        lines = self.text.splitlines(keepends=True)
        if lines and not lines[-1].endswith("\n"):
            lines[-1] += "\n"
        key = next((key for key, _ in self.charts.items if key.value == name), None)
        node = self.charts.get(name)
        if isinstance(node, documents.Sequence) and node.flow and there:
            raise self._fail(f"the entry {name} is written with brackets in an index that is not JSON", node.line)
        if key is not None and not there:  # the chart is named and has no version: [] or nothing
            indent = len(lines[key.line]) - len(lines[key.line].lstrip(" "))
            return "".join(
                (*lines[: key.line], *_written(new, indent, with_name=True), *lines[key.line + 1 :])
            ).encode()
        at, indent = self._place(name, version, there, lines)
        return "".join((*lines[:at], *_written(new, indent, with_name=not there), *lines[at:])).encode()

    def _place(self, name: str, version: str, there: list[tuple[Entry, int]], lines: list[str]) -> tuple[int, int]:
        """The line to write at, and how far the list is indented."""
        keys = [key for key, _ in self.charts.items]
        if there:
            older = next((line for one, line in there if _newer(version, one.version)), None)
            indent = len(lines[there[0][1]].split("-")[0])
            after = next((key.line for key in keys if key.line > there[-1][1]), self._behind_entries(lines))
            return (older if older is not None else after), indent
        indent = len(lines[keys[0].line]) - len(lines[keys[0].line].lstrip(" "))
        return next((key.line for key in keys if key.value > name), self._behind_entries(lines)), indent

    def _behind_entries(self, lines: list[str]) -> int:
        """The line after the last entry: where the next key of the index begins."""
        mine = next(key.line for key, _ in self.root.items if key.value == "entries")
        return min((key.line for key, _ in self.root.items if key.line > mine), default=len(lines))

    def _with_first_entry(self, new: Mapping[str, Any]) -> bytes:
        """`entries: {}` becomes a block with one entry."""
        key = next(key for key, _ in self.root.items if key.value == "entries")
        if self.charts.items:
            raise self._fail("entries is written with braces in an index that is not JSON", key.line)
        lines = self.text.splitlines(keepends=True)
        lines[key.line] = "entries:\n" + "".join(_written(new, 2, with_name=True))
        return "".join(lines).encode()

    def _with_entry_in_json(self, new: Mapping[str, Any], there: Sequence[str]) -> bytes:
        try:
            content = json.loads(self.text)
        except ValueError as problem:
            raise EvidenceError(f"an index in braces that is not JSON: {problem}", where=self.where)
        older = next((place for place, version in enumerate(there) if _newer(str(new["version"]), version)), len(there))
        versions = content["entries"].get(new["name"]) or []
        content["entries"][new["name"]] = [*versions[:older], dict(new), *versions[older:]]
        content["entries"] = dict(sorted(content["entries"].items()))
        return json.dumps(content, indent=2, ensure_ascii=False).encode() + b"\n"


def _newer(one: str, other: str) -> bool:
    mine, theirs = parse_version(one), parse_version(other)
    return mine is not None and (theirs is None or mine > theirs)


def _written(new: Mapping[str, Any], indent: int, *, with_name: bool) -> list[str]:
    """The lines of an entry as an item of its chart's list, the chart's key before it when it is the first."""
    dumped = yaml.dump(
        _quoted(new), Dumper=_Dumper, default_flow_style=False, allow_unicode=True, width=10**6, sort_keys=False
    )
    body = dumped.splitlines(keepends=True)
    space = " " * indent
    item = [f"{space}- {body[0]}", *(f"{space}  {line}" for line in body[1:])]
    name = str(new["name"])
    key = name if documents.meaning(name) == "text" else f'"{name}"'
    return [f"{space}{key}:\n", *item] if with_name else item


class _Text(str):
    """A text that YAML readers, Python's or Go's, might take for something else: written with quotes."""


class _Dumper(yaml.CSafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True


_Dumper.add_representer(
    _Text, lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", str(text), style='"')
)


def _quoted(value: Any) -> Any:
    if isinstance(value, str):
        return _Text(value) if documents.meaning(value) != "text" else value
    if isinstance(value, Mapping):
        return {key: _quoted(item) for key, item in value.items()}
    return [_quoted(item) for item in value] if isinstance(value, list) else value
