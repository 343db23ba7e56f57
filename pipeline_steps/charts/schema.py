"""values.schema.json as helm accepts it, and self-contained: it has the same meaning wherever the
chart is installed.

helm resolves references from the machine it runs on (even `/dev/zero`) or from the network. Whether
values match the schema is helm's to check. Source: JSON Schema 2020-12 and draft 7, 8 (`$ref`,
`$id`); helm 3.18 and 4 (santhosh-tekuri/jsonschema). No library does this: validators follow a
reference while validating, they do not report where it leads.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from typing import Any, NamedTuple
from urllib.parse import unquote, urldefrag, urljoin

from pipeline_steps.toolbox.errors import ConfigurationError, PipelineError

#: Keywords whose value is a mapping from names to schemas.
_NAMED = frozenset(
    {"$defs", "definitions", "properties", "patternProperties", "dependentSchemas", "dependencies"}
)
#: Keywords whose value is data, whatever it looks like.
_DATA = frozenset({"const", "default", "enum", "examples"})
#: Keywords whose schemas are about the same value as the schema they stand in.
_SAME = frozenset({"allOf", "anyOf", "oneOf", "not", "if", "then", "else"})
_REFERENCES = ("$ref", "$dynamicRef", "$recursiveRef")
#: Its meta-schemas are part of every validator.
_KNOWN = ("http://json-schema.org/", "https://json-schema.org/")


class _Schema(NamedTuple):
    """A schema in a document. at: its JSON pointer. base: the URI that its references are relative
    to.
    """

    at: str
    value: Any
    base: str


def check_syntax(data: bytes, where: str, error: type[PipelineError]) -> Any:
    """The document in `data`. Raises `error` for what no validator takes for a schema: no JSON, or
    neither an object nor a truth value.
    """
    try:
        document = json.loads(data.removeprefix(codecs.BOM_UTF8), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as problem:
        raise error(f"not JSON: {problem}", where=where)
    if not isinstance(document, (dict, bool)):
        raise error("the schema is no object", where=where, advice="begin with {")
    return document


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is Python's, not JSON's")


def check(data: bytes, where: str, error: type[PipelineError] = ConfigurationError) -> None:
    """Raise `error` unless `data` is JSON whose references stay inside the document and exist."""
    document = check_syntax(data, where, error)
    schemas = {schema.at: schema for schema in _schemas(document)}
    root = schemas[""].base if schemas else ""
    known_uris = {"", *(schema.base for schema in schemas.values())}
    references: dict[str, list[str]] = {}
    for pointer, schema in schemas.items():
        references[pointer] = [inner for inner in _same_value_schemas(schema) if inner in schemas]
        for keyword in _REFERENCES:
            reference = schema.value.get(keyword)
            if not isinstance(reference, str):
                continue
            target, fragment = urldefrag(urljoin(schema.base, reference))
            if target not in known_uris and not target.startswith(_KNOWN):
                message = (
                    f"it refers to {reference!r}, which helm reads from the machine that "
                    "installs, or asks for"
                )
                raise error(
                    message,
                    where=f"{where}#{pointer}/{keyword}",
                    advice="put what it refers to below $defs",
                )
            if target == root and keyword == "$ref" and unquote(fragment) in schemas:
                references[pointer].append(unquote(fragment))
    try:
        # A cycle through keywords on the same value never ends; through properties it is a
        # recursive type.
        TopologicalSorter(references).prepare()
    except CycleError as cycle:
        place = f"{where}#{cycle.args[1][0]}"
        raise error(
            "it refers to itself in a circle",
            where=place,
            advice="break the circle: helm refuses it, too",
        ) from cycle


def _schemas(document: Any) -> Iterator[_Schema]:
    pending = [_Schema("", document, "")]
    while pending:
        pointer, value, base = pending.pop()
        if not isinstance(value, dict):
            continue
        identity = value.get("$id", value.get("id"))
        if isinstance(identity, str):
            base = urldefrag(urljoin(base, identity)).url
        yield _Schema(pointer, value, base)
        for key, inner in value.items():
            place = f"{pointer}/{_escape_pointer(key)}"
            if key in _NAMED and isinstance(inner, dict):
                pending += [
                    _Schema(f"{place}/{_escape_pointer(name)}", schema, base)
                    for name, schema in inner.items()
                ]
            elif key not in _DATA:
                is_list = isinstance(inner, list)
                pending += [
                    _Schema(f"{place}/{n}", schema, base)
                    for n, schema in enumerate(inner if is_list else ())
                ]
                pending += [] if is_list else [_Schema(place, inner, base)]


def _same_value_schemas(schema: _Schema) -> Iterator[str]:
    """JSON pointers of the subschemas that apply to the same value."""
    for key in _SAME.intersection(schema.value):
        inner = schema.value[key]
        several = range(len(inner)) if isinstance(inner, list) else ()
        yield from (
            (f"{schema.at}/{key}/{n}" for n in several) if several else (f"{schema.at}/{key}",)
        )


def _escape_pointer(name: str) -> str:
    """A name as a part of a JSON pointer (RFC 6901)."""
    return name.replace("~", "~0").replace("/", "~1")
