"""What makes the start of a step short, done before its modules are loaded. It changes no answer."""

from __future__ import annotations

import re
import sys

from pipeline_steps.sources import ahead
from pipeline_steps.toolbox.regex import regex


def prepare(step: str) -> None:
    """Begin what the step asks of git, and keep from loading what it can do without."""
    ahead.begin(tags=step in ("snapshot", "tag_release", "promote"))
    if sys.version_info >= (3, 11) and "typing_extensions" not in sys.modules:
        # msgspec needs nothing of it since 3.11, and it brings inspect, ast and dis. None is the documented way to
        # say that a module is not to be had (The Python Language Reference, 5.3.1).
        sys.modules["typing_extensions"] = None  # type: ignore[assignment]
        try:
            import msgspec  # noqa: F401
        finally:
            del sys.modules["typing_extensions"]
    # PyYAML compiles its patterns when it is loaded, half of the time that takes; its C parser never uses the worst.
    compiler, re.compile = re.compile, regex  # type: ignore[assignment]
    try:
        import yaml  # noqa: F401
    finally:
        re.compile = compiler
