"""How many examples a property gets: with FULL, as many as the test plan demands."""

from __future__ import annotations

import os

FULL = os.environ.get("FULL", "") not in ("", "0")
#: Examples of a property in the full size.
EXAMPLES = 2000


def examples(number: int) -> int:
    """`number`, or EXAMPLES in the full size if that is more."""
    return max(number, EXAMPLES) if FULL else number
