"""A schema is JSON, and refers to nothing outside of itself."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pipeline_steps.charts import schema
from pipeline_steps.toolbox.errors import ConfigurationError


@pytest.mark.parametrize(
    "document",
    [
        True,
        {"$schema": "http://json-schema.org/draft-07/schema#", "properties": {"a": {"$ref": "#/definitions/b"}},
         "definitions": {"b": {"type": "string"}}},
        {"properties": {"$ref": {"type": "string"}, "default": {"$ref": "#/$defs/a~1b"}}, "$defs": {"a/b": {}}},
        {"default": {"$ref": "/dev/zero"}, "enum": [{"$ref": "file:///x"}], "examples": [{"$ref": "http://x/"}]},
        {"$id": "https://example.com/values.json", "$ref": "part.json#/$defs/x",
         "$defs": {"p": {"$id": "part.json", "$defs": {"x": {"type": "object"}}}}},
        {"$id": "https://example.com/values.json", "items": {"$ref": "values.json#/$defs/x"}, "$defs": {"x": {}}},
        {"$ref": "https://json-schema.org/draft/2020-12/schema"},
        {"properties": {"children": {"type": "array", "items": {"$ref": "#"}}}},
        {"properties": {"next": {"allOf": [{"$ref": "#"}]}}},
        {"allOf": [{"$ref": "#/$defs/a"}, {"$ref": "#/$defs/a"}], "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {}}},
        {"$ref": "#name", "$defs": {"a": {"$anchor": "name"}}},
    ],
)  # fmt: skip
def test_references_inside_the_schema_are_accepted(document: Any) -> None:
    schema.check(b"\xef\xbb\xbf" + json.dumps(document).encode(), "values.schema.json")


@pytest.mark.parametrize(
    ("reference", "document"),
    [
        ("/dev/zero", {"$ref": "/dev/zero"}),
        ("file:///etc/passwd", {"properties": {"a": {"items": [{"$ref": "file:///etc/passwd"}]}}}),
        ("other.json", {"additionalProperties": {"$ref": "other.json#/x"}}),
        ("../x", {"if": {"$dynamicRef": "../x"}}),
        ("http://example.com/x", {"$defs": {"a": {"$ref": "http://example.com/x"}}}),
        (
            "https://json-schema.org.example.com/x",
            {"$ref": "https://json-schema.org.example.com/x"},
        ),
        ("part.json", {"$id": "https://example.com/values.json", "$ref": "part.json"}),
        ("data:application/json,{}", {"not": {"$ref": "data:application/json,{}"}}),
    ],
)
def test_references_outside_the_schema_are_refused_with_pointer(
    reference: str, document: Any
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        schema.check(json.dumps(document).encode(), "hello/values.schema.json")
    assert repr(reference)[1:-1] in caught.value.what and caught.value.where.startswith(
        "hello/values.schema.json#/"
    )


@pytest.mark.parametrize(
    "document",
    [
        {"$ref": "#"},
        {"allOf": [{"type": "object"}, {"$ref": "#"}]},
        {"$defs": {"x": {"not": {"$ref": "#/$defs/y"}}, "y": {"$ref": "#/$defs/x"}}},
        {"$id": "https://example.com/values.json", "$ref": "values.json#"},
        {"$ref": "#/$defs/a%20b", "$defs": {"a b": {"$ref": "#"}}},
    ],
)  # fmt: skip
def test_cyclic_schema_is_refused(document: Any) -> None:
    with pytest.raises(ConfigurationError, match="in a circle"):
        schema.check(json.dumps(document).encode(), "values.schema.json")


def test_invalid_json_schema_is_refused() -> None:
    for data in (b"{", b"[" * 100_000, b"\xff", b""):
        with pytest.raises(ConfigurationError, match="not JSON"):
            schema.check(data, "values.schema.json")
