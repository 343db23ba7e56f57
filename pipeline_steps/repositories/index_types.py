"""What helm demands of the types in an index.yaml: for one entry that breaks them it refuses the
whole repository.

Helm decodes an index strictly: no unknown key, no number where it wants text, though it takes both
in a Chart.yaml. Source: helm 3 and 4, pkg/repo/index.go and sigs.k8s.io/yaml; the rules are what
both were seen to do (tests/workflows/test_field.py).
"""

from __future__ import annotations

import bisect
import itertools
import re

from pipeline_steps.repositories import index_blocks
from pipeline_steps.toolbox import yaml_reader
from pipeline_steps.toolbox.errors import EvidenceError
from pipeline_steps.toolbox.yaml_reader import Mapping, Node, Scalar, Sequence

_TEXTS = frozenset(
    "name home version description icon apiVersion condition tags appVersion kubeVersion type".split()
)
_SCALARS = frozenset("digest engine tillerVersion checksum url".split())
_BOOLEANS = frozenset({"deprecated", "removed"})
_LISTS = frozenset({"keywords", "sources"})
_MAINTAINER = frozenset({"name", "email", "url"})
_DEPENDENCY = frozenset({"name", "version", "repository", "condition", "alias"})
_DEPENDENCY_KEYS = _DEPENDENCY | {"tags", "enabled", "import-values"}
_KEYS = frozenset(
    {*_TEXTS, *_SCALARS, *_BOOLEANS, *_LISTS, "created", "annotations", "urls", "maintainers", "dependencies"}
)  # fmt: skip
#: Source: RFC 3339, section 5.6, as Go's time package reads it.
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)")
#: What a number or truth value begins with; what has two points, like most versions, is neither.
_NO_TEXT = rb"[-+.]|[0-9](?![^\s.]*\.[^\s.]*\.)|(?i:true|false|yes|no|on|off|y|n)(?=\s|\Z)"
#: A key that wants text, up to a value that may be none. These patterns begin with a line end, which
#: is found ten times faster than the `^` of every line; \1 keeps the indentation from being tried
#: at every length.
_SUSPECT = re.compile(
    rb"\n(?=([ -]*))\1(?:%s):[ \t]+(?=%s)"
    % (b"|".join(key.encode() for key in sorted(_TEXTS)), _NO_TEXT)
)
_TOP_KEYS = frozenset("apiVersion generated entries publicKeys annotations serverInfo".split())
_TOP_LINE = re.compile(rb"\n(?=[A-Za-z_\xef])")
#: A key of the index itself, and what follows it on its line without a comment.
_TOP = re.compile(
    rb"^(?:\xef\xbb\xbf)?([A-Za-z_][-.\w]*):(?:[ \t]+([^\r\n#]*?))?[ \t]*(?:#[^\r\n]*)?\r?$",
    re.MULTILINE,
)
#: A key that helm does not know, indented as helm indents the keys of an entry.
_UNKNOWN = re.compile(
    rb"\n(?:  - |    )(?!(?:%s):)[A-Za-z_][-.\w]*:(?=\s)"
    % b"|".join(key.encode() for key in sorted(_KEYS))
)


def rejection(item: Node | None) -> str:
    """Why helm refuses the whole index for the keys and types in this entry, "" when it does not. An
    entry that is empty or has no name is merely skipped.
    """
    if item is None or _is_null(item):
        return ""
    if not isinstance(item, Mapping):
        return "it is not a mapping"
    for key, value in item.items:
        why = _field(key.value, value)
        if why:
            return why
    # helm decodes JSON without being strict (helm repo index --json): unknown keys pass there.
    is_json = item.flow and all(key.style == '"' for key, _ in item.items)
    unknown = [] if is_json else _unknown_keys(item)
    return f"it does not know {', '.join(unknown)}" if unknown else ""


def top_rejection(data: bytes) -> tuple[int, str] | None:
    """Line, from 1, and reason where helm refuses the index for its own keys; None for JSON, which
    it does not read strictly.
    """
    if data.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{"):
        return None
    starts = itertools.chain((0,), (line.end() for line in _TOP_LINE.finditer(data)))
    for match in filter(None, (_TOP.match(data, start) for start in starts)):
        key, value = ((group or b"").decode(errors="replace") for group in match.groups())
        if key not in _TOP_KEYS:
            why = f"it does not know {key}"
        elif key == "generated" and value and yaml_reader.meaning(value) != "null":
            if _TIME.fullmatch(value.strip("\"'")):
                continue
            why = "generated is not a time like 2026-01-31T00:00:00Z"
        else:
            continue
        return data.count(b"\n", 0, match.start(1)) + 1, why
    return None


def _unknown_keys(item: Mapping) -> list[str]:
    """The keys of an entry that helm does not know."""
    unknown = [key.value for key, _ in item.items if key.value not in _KEYS]
    for name, allowed in (("maintainers", _MAINTAINER), ("dependencies", _DEPENDENCY_KEYS)):
        node = item.get(name)
        for inner in node.items if isinstance(node, Sequence) else ():
            keys = inner.keys if isinstance(inner, Mapping) else []
            unknown += [f"{key} of {name}" for key in keys if key not in allowed]
    return unknown


def _field(key: str, value: Node) -> str:
    if key in _TEXTS:
        return _text(key, value)
    if key in _SCALARS:
        return "" if isinstance(value, Scalar) else f"{key} is not a text"
    if _is_null(value):
        return ""
    if key in _BOOLEANS:
        is_boolean = isinstance(value, Scalar) and value.meaning == "bool"
        return "" if is_boolean else f"{key} is neither true nor false"
    if key == "created":
        is_time = isinstance(value, Scalar) and _TIME.fullmatch(value.value)
        return "" if is_time else "created is not a time like 2026-01-31T00:00:00Z"
    if key == "annotations":
        return _annotations(value)
    if key in ("urls", "maintainers", "dependencies") or key in _LISTS:
        if not isinstance(value, Sequence):
            return f"{key} is not a list"
        return next((why for item in value.items if (why := _listed(key, item))), "")
    return ""


def _listed(key: str, item: Node) -> str:
    if key in _LISTS:
        return _text(f"an entry of {key}", item)
    if key == "urls":
        return "" if isinstance(item, Scalar) else "an entry of urls is not a text"
    if not isinstance(item, Mapping):
        return "" if _is_null(item) else f"an entry of {key} is not a mapping"
    texts = _MAINTAINER if key == "maintainers" else _DEPENDENCY
    for name, value in item.items:
        label = f"{name.value} of {key}"
        if name.value in texts:
            why = _text(label, value)
        elif key == "dependencies" and name.value in ("tags", "enabled", "import-values"):
            why = _dependency_field(name.value, value)
        else:
            why = ""
        if why:
            return why
    return ""


def _dependency_field(key: str, value: Node) -> str:
    if _is_null(value):
        return ""
    if key == "enabled":
        is_boolean = isinstance(value, Scalar) and value.meaning == "bool"
        return "" if is_boolean else "enabled of dependencies is neither true nor false"
    if not isinstance(value, Sequence):
        return f"{key} of dependencies is not a list"
    texts = value.items if key == "tags" else []
    return next((why for item in texts if (why := _text("an entry of tags", item))), "")


def _annotations(value: Node) -> str:
    if not isinstance(value, Mapping):
        return "annotations is not a mapping"
    for key, item in value.items:
        # What is called like a key of Chart.yaml is made into a text on the way.
        if key.value in _TEXTS and isinstance(item, Scalar):
            continue
        if why := _text(f"{key.value} of annotations", item):
            return why
    return ""


def _text(label: str, value: Node) -> str:
    if not isinstance(value, Scalar):
        return f"{label} is not a text"
    if value.meaning in ("text", "null", "timestamp", "merge") or ":" in value.value:
        return ""  # 1:30 is a number in YAML 1.1 only
    return f"{label}: {value.value} is {_as_read(value)}, helm wants text there"


def _as_read(value: Scalar) -> str:
    """What YAML makes of a number or truth value, in words."""
    if value.meaning == "bool":
        return "a truth value"
    try:
        number = float(value.value)
    except ValueError:
        return "read as a number"
    plain = str(int(number)) if number.is_integer() and abs(number) < 10**21 else repr(number)
    return f"read as the number {plain}"


def _is_null(node: Node) -> bool:
    return isinstance(node, Scalar) and node.meaning == "null"


def refuse_rejected(data: bytes, where: str) -> None:
    """Raises EvidenceError naming the line of an entry for which helm refuses the index, of the
    kinds that programs write: a number where text should be, a key that helm does not know. Only
    entries with lines that look so are parsed.
    """
    if rejected := top_rejection(data):
        raise EvidenceError(
            f"helm refuses this whole index: {rejected[1]}",
            where=f"{where}:{rejected[0]}",
            advice="correct that line, or remove it",
        )
    suspects = [match for match in _SUSPECT.finditer(data) if _is_suspect(data, match)]
    suspects += _UNKNOWN.finditer(data)
    blocks = index_blocks.find(data) if suspects else None
    if blocks is None:
        return
    starts = sorted(
        (start, end)
        for block in blocks.charts.values()
        for start, end in zip(block.items, (*block.items[1:], block.end), strict=False)
    )
    seen: set[int] = set()
    for match in suspects:
        number = bisect.bisect_right(starts, (match.end(), len(data))) - 1
        if number < 0 or number in seen:
            continue
        seen.add(number)
        start, end = starts[number]
        node = yaml_reader.parse(data[start:end], where, error=EvidenceError, largest=2**26)[1]
        item = node.items[0] if isinstance(node, Sequence) and node.items else None
        if why := rejection(item):
            newline = b"\n"
            raise EvidenceError(
                f"helm refuses this whole index: {why}",
                where=f"{where}:{data.count(newline, 0, start) + 1}",
                advice="pipeline-steps audit --fix URL corrects the entry from its archive",
            )


def _is_suspect(data: bytes, match: re.Match[bytes]) -> bool:
    end = data.find(b"\n", match.end())
    value = data[match.end() : end if end >= 0 else len(data)].split(b" #")[0].strip()
    return yaml_reader.meaning(value.decode(errors="replace")) in ("int", "float", "bool")
