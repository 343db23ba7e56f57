"""The source systems that tests ask the same of; a new one is one more row."""

from __future__ import annotations

from tests.support import gits
from tests.support.checkouts import System

SYSTEMS: dict[str, System] = {
    "git": System(gits.environment, gits.checkout, gits.server),
}
