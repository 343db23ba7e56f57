"""A diff of two renderings of a chart for people: by resource, without what changes in every build.

Pure: takes what `helm template` printed. Left out: the order of resources and keys, comments, the
labels helm.sh/chart and app.kubernetes.io/version, checksum annotations, registry and tag of an
image whose digest is the same, and random values (see `chance`). Whether a release may differ is
judged in `compare`.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import yaml

from pipeline_steps.charts import random_values
from pipeline_steps.charts.compare import split_documents
from pipeline_steps.toolbox import yaml_reader
from pipeline_steps.toolbox.errors import ConfigurationError
from pipeline_steps.toolbox.yaml_reader import Alias, Node

_LABELS = frozenset({"helm.sh/chart", "app.kubernetes.io/version"})
_HASH = re.compile(r"[0-9a-f]{32,128}")
#: From the beginning of a name only: from each letter of a value in base64 it would take hours.
_IMAGE = re.compile(
    r"(?<![\w.-])(?:[\w.-]+(?::\d+)?/)?(?:[\w.-]+/)*([\w.-]+)(?::[\w.-]+)?@(sha256:[0-9a-f]{64})"
)
#: Nodes of one document, aliases followed; more of them are compared as text.
_MOST = 100_000


class Difference(NamedTuple):
    """What differs in one resource.

    name: kind namespace/name. word: added, removed or changed. text: unified diff.
    """

    name: str
    word: str
    text: str


class Side(NamedTuple):
    """One of the two charts.

    rendered: its rendering. again: a second one, to detect random values. same: texts to replace by
    what both charts have in common.
    """

    rendered: str
    again: str
    same: Mapping[str, str] = {}


def differences(before: Side, after: Side) -> list[Difference]:
    """The resources that differ, by name."""
    return list(_differences(_resources(before), _resources(after)))


def _differences(before: Mapping[str, str], after: Mapping[str, str]) -> Iterator[Difference]:
    for name in sorted({*before, *after}):
        old, new = before.get(name), after.get(name)
        if old != new:
            lines = ((old or "").splitlines(), (new or "").splitlines())
            # The first two lines are the file names, which are empty here.
            text = "\n".join(list(difflib.unified_diff(*lines, lineterm="", n=3))[2:])
            yield Difference(
                name, "added" if old is None else "removed" if new is None else "changed", text
            )


def _resources(side: Side) -> dict[str, str]:
    """Name → YAML text with sorted keys; resources with the same name are numbered."""
    resources: dict[str, str] = {}
    documents, repeated = tuple(split_documents(side.rendered)), tuple(split_documents(side.again))
    if [each.template for each in documents] != [each.template for each in repeated]:
        repeated = documents  # whole documents come by chance: they are shown
    for document, repetition in zip(documents, repeated, strict=True):
        name, text = _resource(document.template, document.text, repetition.text, side.same)
        count = sum(used.partition(" #")[0] == name for used in resources)
        resources[f"{name} #{count + 1}" if count else name] = text
    return resources


def _resource(
    template: str, text: str, repeated_text: str, replacements: Mapping[str, str]
) -> tuple[str, str]:
    try:
        node, repeated_node = (
            yaml_reader.parse(each.encode(), template, aliases=True)[1]
            for each in (text, repeated_text)
        )
        value = _Plain(replacements).value(node, repeated_node)
    except ConfigurationError:
        return template, random_values.mask_random([text, repeated_text])
    if not isinstance(value, dict):
        return template, random_values.mask_random([text, repeated_text])
    metadata = value.get("metadata")
    metadata_fields = metadata if isinstance(metadata, dict) else {}
    place = f"{metadata_fields['namespace']}/" if metadata_fields.get("namespace") else ""
    name = f"{value.get('kind') or template} {place}{metadata_fields.get('name') or ''}".rstrip()
    return name, yaml.dump(
        value, Dumper=_Dumper, default_flow_style=False, allow_unicode=True, width=10**6
    )


class _Dumper(yaml.CSafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True


class _Plain:
    """A document as plain values, without what changes in every build."""

    def __init__(self, same: Mapping[str, str]) -> None:
        self._replacements = sorted(same.items(), key=lambda pair: len(pair[0]), reverse=True)
        self._nodes_left = _MOST

    def value(self, node: Node | None, repeated: Node | None, parent_key: str = "") -> Any:
        """The plain value of `node`. repeated: the same node of the second rendering."""
        self._nodes_left -= 1
        if self._nodes_left < 0:
            raise ConfigurationError(
                "a rendered document has too many nodes",
                advice="compare a smaller chart, or values that render less",
            )
        if isinstance(node, Alias):
            return self.value(
                node.target, repeated.target if isinstance(repeated, Alias) else None, parent_key
            )
        if isinstance(node, yaml_reader.Mapping):
            repeated_items = _items(repeated, node)
            compared = (
                (key, item, repeated_item)
                for (key, item), repeated_item in zip(node.items, repeated_items, strict=True)
                if not _changes_every_build(parent_key, key.value, item)
            )
            return {
                _mask_scalar(key, repeated_item[0]): self.value(item, repeated_item[1], key.value)
                for key, item, repeated_item in compared
            }
        if isinstance(node, yaml_reader.Sequence):
            repeated_items = _items(repeated, node)
            return [
                self.value(item, repeated_item, parent_key)
                for item, repeated_item in zip(node.items, repeated_items, strict=True)
            ]
        if node is None or node.meaning == "null":
            return None
        if node.meaning == "text" or _mask_scalar(node, repeated) != node.value:
            return self._text(_mask_scalar(node, repeated))
        return _PlainScalar(node.value, node.meaning)

    def _text(self, text: str) -> str:
        for original, common in self._replacements:
            text = text.replace(original, common)
        return _IMAGE.sub(r"\1@\2", text)


class _PlainScalar(NamedTuple):
    """A number or truth value as written."""

    text: str
    meaning: str


_Dumper.add_representer(
    _PlainScalar, lambda dumper, one: dumper.represent_scalar(f"tag:yaml.org,2002:{one[1]}", one[0])
)


def _items(
    repeated: Node | None, node: yaml_reader.Mapping | yaml_reader.Sequence
) -> Sequence[Any]:
    """The items of the same node in the second rendering, or its own where the shapes differ:
    random parts are shown there.
    """
    if isinstance(repeated, type(node)) and len(repeated.items) == len(node.items):
        return repeated.items
    return node.items


def _mask_scalar(node: yaml_reader.Scalar, repeated: Node | None) -> str:
    return (
        random_values.mask_random([node.value, repeated.value])
        if isinstance(repeated, yaml_reader.Scalar)
        else node.value
    )


def _changes_every_build(parent_key: str, key: str, item: Node) -> bool:
    if parent_key in ("labels", "matchLabels", "selector") and key in _LABELS:
        return True
    hashed = isinstance(item, yaml_reader.Scalar) and _HASH.fullmatch(item.value)
    return parent_key == "annotations" and "checksum" in key.lower() and bool(hashed)
