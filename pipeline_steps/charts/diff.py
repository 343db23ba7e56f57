"""Two renderings of a chart as a diff for people: resource by resource, without what changes in every build.

Pure: takes what `helm template` printed. Left out: the order of resources and of keys, comments, the labels
helm.sh/chart and app.kubernetes.io/version, checksum annotations, the registry and tag of an image whose digest is the
same. Whether a release may differ at all is judged in `compare`.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import yaml

from pipeline_steps.charts.compare import rendered
from pipeline_steps.toolbox import yaml_reader
from pipeline_steps.toolbox.errors import ConfigurationError
from pipeline_steps.toolbox.yaml_reader import Alias, Node

_LABELS = frozenset({"helm.sh/chart", "app.kubernetes.io/version"})
_HASH = re.compile(r"[0-9a-f]{32,128}")
_IMAGE = re.compile(r"(?:[\w.-]+(?::\d+)?/)?(?:[\w.-]+/)*([\w.-]+)(?::[\w.-]+)?@(sha256:[0-9a-f]{64})")
#: Nodes of one document, aliases followed; more of them are compared as text.
_MOST = 100_000


class Difference(NamedTuple):
    """What is another in one resource. name: kind namespace/name; word: added, removed, changed; text: unified diff."""

    name: str
    word: str
    text: str


def differences(before: str, after: str, aliases: Sequence[Mapping[str, str]] = ({}, {})) -> list[Difference]:
    """The resources that differ, by name. aliases: for each side, texts and what they stand for on both sides."""
    ours, theirs = (_resources(text, same) for text, same in zip((before, after), aliases, strict=True))
    return list(_compared(ours, theirs))


def _compared(ours: Mapping[str, str], theirs: Mapping[str, str]) -> Iterator[Difference]:
    for name in sorted({*ours, *theirs}):
        old, new = ours.get(name), theirs.get(name)
        if old != new:
            lines = ((old or "").splitlines(), (new or "").splitlines())
            text = "\n".join(list(difflib.unified_diff(*lines, lineterm="", n=3))[2:])
            yield Difference(name, "added" if old is None else "removed" if new is None else "changed", text)


def _resources(output: str, same: Mapping[str, str]) -> dict[str, str]:
    """Name → text with sorted keys; resources of one name are counted."""
    found: dict[str, str] = {}
    for one in rendered(output):
        name, text = _resource(one.template, one.text, same)
        count = sum(known.partition(" #")[0] == name for known in found)
        found[f"{name} #{count + 1}" if count else name] = text
    return found


def _resource(template: str, text: str, same: Mapping[str, str]) -> tuple[str, str]:
    try:
        _, node = yaml_reader.parse(text.encode(), template, aliases=True)
        value = _Plain(same).of(node)
    except ConfigurationError:
        return template, text
    if not isinstance(value, dict):
        return template, text
    metadata = value.get("metadata")
    said = metadata if isinstance(metadata, dict) else {}
    place = f"{said['namespace']}/" if said.get("namespace") else ""
    name = f"{value.get('kind') or template} {place}{said.get('name') or ''}".rstrip()
    return name, yaml.dump(value, Dumper=_Dumper, default_flow_style=False, allow_unicode=True, width=10**6)


class _Dumper(yaml.CSafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True


class _Plain:
    """The tree of a document as plain values, without what changes in every build."""

    def __init__(self, same: Mapping[str, str]) -> None:
        self._same = sorted(same.items(), key=lambda pair: len(pair[0]), reverse=True)
        self._left = _MOST

    def of(self, node: Node | None, above: str = "") -> Any:
        self._left -= 1
        if self._left < 0:
            raise ConfigurationError("a document with too many nodes")
        if isinstance(node, Alias):
            return self.of(node.target, above)
        if isinstance(node, yaml_reader.Mapping):
            kept = ((key.value, item) for key, item in node.items if not _noise(above, key.value, item))
            return {key: self.of(item, key) for key, item in kept}
        if isinstance(node, yaml_reader.Sequence):
            return [self.of(item, above) for item in node.items]
        if node is None or node.meaning == "null":
            return None
        if node.meaning == "text":
            return self._text(node.value)
        return _Written(node.value, node.meaning)

    def _text(self, text: str) -> str:
        for own, common in self._same:
            text = text.replace(own, common)
        return _IMAGE.sub(r"\1@\2", text)


class _Written(NamedTuple):
    """A number or truth value, as it was written."""

    text: str
    meaning: str


_Dumper.add_representer(_Written, lambda dumper, one: dumper.represent_scalar(f"tag:yaml.org,2002:{one[1]}", one[0]))


def _noise(above: str, key: str, item: Node) -> bool:
    if above in ("labels", "matchLabels", "selector") and key in _LABELS:
        return True
    hashed = isinstance(item, yaml_reader.Scalar) and _HASH.fullmatch(item.value)
    return above == "annotations" and "checksum" in key.lower() and bool(hashed)
