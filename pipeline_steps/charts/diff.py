"""Two renderings of a chart as a diff for people: resource by resource, without what changes in
every build.

Pure: takes what `helm template` printed. Left out: the order of resources and of keys, comments,
the labels helm.sh/chart and app.kubernetes.io/version, checksum annotations, the registry and tag
of an image whose digest is the same, and what is by chance (see `chance`). Whether a release may
differ at all is judged in `compare`.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import yaml

from pipeline_steps.charts import chance
from pipeline_steps.charts.compare import split_documents
from pipeline_steps.toolbox import yaml_reader
from pipeline_steps.toolbox.errors import ConfigurationError
from pipeline_steps.toolbox.yaml_reader import Alias, Node

_LABELS = frozenset({"helm.sh/chart", "app.kubernetes.io/version"})
_HASH = re.compile(r"[0-9a-f]{32,128}")
_IMAGE = re.compile(
    r"(?:[\w.-]+(?::\d+)?/)?(?:[\w.-]+/)*([\w.-]+)(?::[\w.-]+)?@(sha256:[0-9a-f]{64})"
)
#: Nodes of one document, aliases followed; more of them are compared as text.
_MOST = 100_000


class Difference(NamedTuple):
    """What is another in one resource. name: kind namespace/name; word: added, removed, changed;
    text: unified diff.
    """

    name: str
    word: str
    text: str


class Side(NamedTuple):
    """A chart: rendered; again: rendered once more, to see what is by chance; same: texts and what
    they stand for.
    """

    rendered: str
    again: str
    same: Mapping[str, str] = {}


def differences(before: Side, after: Side) -> list[Difference]:
    """The resources that differ, by name."""
    return list(_differences(_resources(before), _resources(after)))


def _differences(ours: Mapping[str, str], theirs: Mapping[str, str]) -> Iterator[Difference]:
    for name in sorted({*ours, *theirs}):
        old, new = ours.get(name), theirs.get(name)
        if old != new:
            lines = ((old or "").splitlines(), (new or "").splitlines())
            text = "\n".join(list(difflib.unified_diff(*lines, lineterm="", n=3))[2:])
            yield Difference(
                name, "added" if old is None else "removed" if new is None else "changed", text
            )


def _resources(side: Side) -> dict[str, str]:
    """Name → text with sorted keys; resources of one name are counted."""
    found: dict[str, str] = {}
    documents, others = tuple(split_documents(side.rendered)), tuple(split_documents(side.again))
    if [each.template for each in documents] != [each.template for each in others]:
        others = documents  # whole documents come by chance: they are shown
    for document, other in zip(documents, others, strict=True):
        name, text = _resource(document.template, document.text, other.text, side.same)
        count = sum(known.partition(" #")[0] == name for known in found)
        found[f"{name} #{count + 1}" if count else name] = text
    return found


def _resource(template: str, text: str, again: str, same: Mapping[str, str]) -> tuple[str, str]:
    try:
        node, other = (
            yaml_reader.parse(each.encode(), template, aliases=True)[1] for each in (text, again)
        )
        value = _Plain(same).value(node, other)
    except ConfigurationError:
        return template, chance.mask_random([text, again])
    if not isinstance(value, dict):
        return template, chance.mask_random([text, again])
    metadata = value.get("metadata")
    said = metadata if isinstance(metadata, dict) else {}
    place = f"{said['namespace']}/" if said.get("namespace") else ""
    name = f"{value.get('kind') or template} {place}{said.get('name') or ''}".rstrip()
    return name, yaml.dump(
        value, Dumper=_Dumper, default_flow_style=False, allow_unicode=True, width=10**6
    )


class _Dumper(yaml.CSafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True


class _Plain:
    """The tree of a document as plain values, without what changes in every build."""

    def __init__(self, same: Mapping[str, str]) -> None:
        self._same = sorted(same.items(), key=lambda pair: len(pair[0]), reverse=True)
        self._left = _MOST

    def value(self, node: Node | None, other: Node | None, above: str = "") -> Any:
        """other: the same node, rendered again."""
        self._left -= 1
        if self._left < 0:
            raise ConfigurationError("a document with too many nodes")
        if isinstance(node, Alias):
            return self.value(
                node.target, other.target if isinstance(other, Alias) else None, above
            )
        if isinstance(node, yaml_reader.Mapping):
            others = _items(other, node)
            kept = (
                (key, item, again)
                for (key, item), again in zip(node.items, others, strict=True)
                if not _changes_every_build(above, key.value, item)
            )
            return {
                _mask_scalar(key, again[0]): self.value(item, again[1], key.value)
                for key, item, again in kept
            }
        if isinstance(node, yaml_reader.Sequence):
            others = _items(other, node)
            return [
                self.value(item, again, above)
                for item, again in zip(node.items, others, strict=True)
            ]
        if node is None or node.meaning == "null":
            return None
        if node.meaning == "text" or _mask_scalar(node, other) != node.value:
            return self._text(_mask_scalar(node, other))
        return _PlainScalar(node.value, node.meaning)

    def _text(self, text: str) -> str:
        for own, common in self._same:
            text = text.replace(own, common)
        return _IMAGE.sub(r"\1@\2", text)


class _PlainScalar(NamedTuple):
    """A number or truth value, as it was written."""

    text: str
    meaning: str


_Dumper.add_representer(
    _PlainScalar, lambda dumper, one: dumper.represent_scalar(f"tag:yaml.org,2002:{one[1]}", one[0])
)


def _items(other: Node | None, node: yaml_reader.Mapping | yaml_reader.Sequence) -> Sequence[Any]:
    """The items of the same node rendered again; its own where that is not of one shape: chance is
    shown there.
    """
    if isinstance(other, type(node)) and len(other.items) == len(node.items):
        return other.items
    return node.items


def _mask_scalar(node: yaml_reader.Scalar, other: Node | None) -> str:
    return (
        chance.mask_random([node.value, other.value])
        if isinstance(other, yaml_reader.Scalar)
        else node.value
    )


def _changes_every_build(above: str, key: str, item: Node) -> bool:
    if above in ("labels", "matchLabels", "selector") and key in _LABELS:
        return True
    hashed = isinstance(item, yaml_reader.Scalar) and _HASH.fullmatch(item.value)
    return above == "annotations" and "checksum" in key.lower() and bool(hashed)
