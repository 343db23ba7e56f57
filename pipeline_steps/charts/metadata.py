"""Chart.yaml as helm writes it into registries and indexes: known fields in helm's order and types.

Source: helm 3 and 4, pkg/chart/v2/metadata.go and dependency.go. helm parses indexes strictly: an
unknown field would make it refuse the whole repository.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

_TEXTS = (
    "name home version description icon apiVersion condition tags appVersion kubeVersion type"
).split()
#: The keys of a Chart.yaml that helm knows, in its order.
FIELDS = (
    "name home sources version description keywords maintainers icon apiVersion condition tags "
    "appVersion deprecated annotations kubeVersion dependencies type"
).split()
_DEPENDENCY = "name version repository condition tags enabled import-values alias".split()
_MAINTAINER = "name email url".split()
#: A helm chart's time of creation, where a registry or an index wants one: fixed, because it must
#: be reproducible.
CREATED = "1980-01-01T00:00:00Z"


def helm_metadata(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a Chart.yaml (`Metadata.fields`) that helm knows, without empty ones.

    >>> helm_metadata({"version": "1.0.0", "name": "a", "mine": "x", "annotations": {"b": True}})
    {'name': 'a', 'version': '1.0.0', 'annotations': {'b': 'true'}}
    """
    metadata = {key: _field(key, fields[key]) for key in FIELDS if key in fields}
    return {key: value for key, value in metadata.items() if value not in ("", None, [], {}, False)}


def _field(key: str, value: Any) -> Any:
    if key in _TEXTS:
        return _text(value)
    if key in ("sources", "keywords"):
        return [_text(item) for item in value or []]
    if key == "maintainers":
        return [_only(_MAINTAINER, item) for item in value or []]
    if key == "annotations":
        return {name: _text(item) for name, item in (value or {}).items()}
    if key == "dependencies":
        return [dependency(item) for item in value or []]
    return bool(value)


def dependency(item: Mapping[str, Any]) -> dict[str, Any]:
    """One dependency as helm writes it. Of its empty texts only `repository` is written.

    >>> dependency({"version": "^1", "name": "db"})
    {'name': 'db', 'version': '^1', 'repository': ''}
    """
    typed = {**_only(_DEPENDENCY, item), "repository": _text(item.get("repository"))}
    return {
        key: _sorted(typed[key]) if key == "import-values" else typed[key]
        for key in _DEPENDENCY
        if key in typed
    }


def _sorted(entries: Any) -> Any:
    """Sort keys: Go sorts the keys of values without a type of their own."""
    return [dict(sorted(entry.items())) if isinstance(entry, dict) else entry for entry in entries]


def _only(keys: list[str], item: Mapping[str, Any]) -> dict[str, Any]:
    selected = {key: item[key] for key in keys if key in item}
    typed = {
        key: value if key in ("tags", "enabled", "import-values") else _text(value)
        for key, value in selected.items()
    }
    return {key: value for key, value in typed.items() if value not in (None, "", [], False)}


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str) else "" if value is None else str(value)


def helm_json(fields: Mapping[str, Any]) -> bytes:
    """The config blob of a chart in a registry, byte for byte as Go's encoding/json writes it.

    >>> helm_json({"name": "a", "kubeVersion": ">=1.20"}).decode()
    '{"name":"a","kubeVersion":"\\\\u003e=1.20"}'
    """
    return go_json(helm_metadata(fields))


def go_json(value: Any) -> bytes:
    """JSON as Go's encoding/json writes it, with keys in their given order."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    # encoding/json escapes these by default, so that JSON can be embedded in HTML.
    for sign in "<>&\u2028\u2029":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return text.encode()


def oci_annotations(fields: Mapping[str, Any]) -> dict[str, str]:
    """The annotations of a chart's manifest in a registry. Source: helm, pkg/registry/chart.go."""
    metadata = helm_metadata(fields)
    standard = {
        "description": metadata.get("description", ""),
        "title": metadata.get("name", ""),
        "version": metadata.get("version", ""),
        "url": metadata.get("home", ""),
        "created": CREATED,
        "source": next(iter(metadata.get("sources", [])), ""),
        "authors": ", ".join(map(_author, metadata.get("maintainers", []))),
    }
    annotations = {
        f"org.opencontainers.image.{key}": value for key, value in standard.items() if value
    }
    # helm does not let annotations of the chart override these two.
    fixed = ("org.opencontainers.image.version", "org.opencontainers.image.title")
    return {
        **annotations,
        **{
            key: value for key, value in metadata.get("annotations", {}).items() if key not in fixed
        },
    }


def _author(maintainer: Mapping[str, str]) -> str:
    mail = f" ({maintainer['email']})" if maintainer.get("email") else ""
    return f"{maintainer.get('name', '')}{mail}"
