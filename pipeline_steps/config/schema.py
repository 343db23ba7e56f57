"""The JSON Schema of pipeline.yaml, made from the types, for editors: docs/reference/pipeline.schema.json.

python -m pipeline_steps.config.schema     # writes it
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec

from pipeline_steps.config.language import Language

FILE = Path("docs/reference/pipeline.schema.json")


def schema() -> dict[str, Any]:
    """The schema of a whole pipeline.yaml (JSON Schema 2020-12)."""
    made = msgspec.json.schema(Language)
    header = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "pipeline.yaml",
        "description": "What pipeline_steps does with the charts and images of a repository.",
    }
    return {**header, **made}


def text() -> str:
    """The schema as it stands in the file."""
    return json.dumps(schema(), indent=2, ensure_ascii=False, sort_keys=True) + "\n"


def main() -> int:
    FILE.parent.mkdir(parents=True, exist_ok=True)
    FILE.write_text(text(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
