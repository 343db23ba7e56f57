"""The source systems that tests ask the same of; a new one is one more row."""

from __future__ import annotations

from tests.support import bazaars, gits, svns
from tests.support.checkouts import System

SYSTEMS: dict[str, System] = {
    "git": System(gits.environment, gits.checkout, gits.server),
    "bzr": System(bazaars.environment, bazaars.checkout, bazaars.server),
    "svn": System(svns.environment, svns.checkout, svns.server),
}
