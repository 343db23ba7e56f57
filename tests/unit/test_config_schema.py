"""The published JSON Schema is the one of the types."""

from __future__ import annotations

from pathlib import Path

from pipeline_steps.config import schema

ROOT = Path(__file__).parents[2]


def test_the_file_is_current() -> None:
    advice = "run python -m pipeline_steps.config.schema"
    assert (ROOT / schema.FILE).read_text(encoding="utf-8") == schema.text(), advice


def test_unknown_keys_are_refused_by_editors_too() -> None:
    definitions = schema.schema()["$defs"]
    assert {name for name, made in definitions.items() if made.get("additionalProperties") is not False} == set()
    assert "charts" in definitions["Language"]["required"]
